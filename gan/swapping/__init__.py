"""Whole files through the swapper:
images, animations, videos."""
