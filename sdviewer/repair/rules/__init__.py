"""From pairs of keys to the few readable steps that a person would write."""
