"""The people to train on: a pair, or many people."""
