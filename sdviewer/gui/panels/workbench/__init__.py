"""The panels of a workbench: a file, what it has to fit, and what is between them."""
