"""Blending of a generated face into its image:
feathering, Poisson blending, grain."""
