"""The page of a series of checkpoints: its files, the numbers they state, norms, keys and changes over the steps."""
