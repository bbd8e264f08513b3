"""Measure a trained run: held-out metrics, discriminator scores,
comparisons."""
