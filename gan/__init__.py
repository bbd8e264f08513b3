"""What is learned, and learning it. `gan.register` adds
a learner's own activations, losses, objectives, optimizers."""
from gan import register
