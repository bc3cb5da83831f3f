"""The parts of the target dialog: the ways to say what a file has to fit, and what was understood of it."""
