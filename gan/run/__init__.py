"""The folder of a run: config, checkpoints and lock,
and whether the run fits into memory."""
