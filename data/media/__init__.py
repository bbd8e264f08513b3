"""Read and write images, animations and videos,
with the provenance label of synthetic media."""
