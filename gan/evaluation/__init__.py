"""Measure a trained run: held-out metrics, scores of the discriminator,
comparisons."""
