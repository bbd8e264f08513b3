"""Detect faces, predict their 68 landmarks and embed them for recognition.
The project trains these small networks itself."""
