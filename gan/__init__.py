"""What is learned, and learning it: the face-swap autoencoder, its training, its measures and its use."""
