"""Losses, one training step of each player,
and the state that training carries from step to step."""
