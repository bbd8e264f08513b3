"""Losses, the training step of each network, and the state of a training."""
