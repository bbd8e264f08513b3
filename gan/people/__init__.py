"""Whose faces a run learns:
a pair of people, or many."""
