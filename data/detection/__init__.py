"""Find faces, their 68 landmarks and whose they are,
with small networks trained by the project itself."""
