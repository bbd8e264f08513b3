"""One session of a run:
set up, train, save."""
