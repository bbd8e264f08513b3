"""Swap whole files:
images, animations, videos."""
