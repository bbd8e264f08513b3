"""Configs of runs for tests that train without train.py."""
from gan.run.config import Config


def new_config(**values):
    """Return a Config with the default weights of the loss, without occluders unless given."""
    config = Config(**{"occlusion_prob": 0.0} | values)
    config.set_loss_weights({})
    return config
