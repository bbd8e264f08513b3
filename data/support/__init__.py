"""Helpers of the command lines and of parallel work.
Nothing here knows about images."""
