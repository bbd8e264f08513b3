"""Put a generated face back into its image:
feathering, Poisson blending, grain."""
