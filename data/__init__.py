"""Images and faces: reading, rendering, aligning, batching and putting back."""
