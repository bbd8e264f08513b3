"""Read and write images, animations and videos,
with the label that marks synthetic media."""
