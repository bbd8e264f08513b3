"""Load a person's faces into arrays, from files or from the renderer,
and make augmented batches of them."""
