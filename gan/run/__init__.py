"""A run's folder: config.json, the checkpoint, the lock,
and whether the run fits into memory."""
