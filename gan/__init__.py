"""The face-swap GAN: its networks, their training, evaluation and use."""
