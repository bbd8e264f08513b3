"""A person's faces as arrays, from files or from the renderer,
and the augmented batches made of them."""
