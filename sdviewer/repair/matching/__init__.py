"""Which tensors of a checkpoint stand for which of a target that names them otherwise, and how surely."""
