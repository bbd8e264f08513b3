"""The networks: autoencoder, discriminator, the multi-person model,
and their named sizes."""
