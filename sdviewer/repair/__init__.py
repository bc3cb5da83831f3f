"""Key work: operations, patterns, recipes and the plan they make of a checkpoint, on names, shapes and dtypes only."""
