"""The networks: autoencoder, discriminator, multi-person model, and their presets."""
