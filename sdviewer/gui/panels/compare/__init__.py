"""The window of a comparison: both files beside each other, where they differ, and one pair in detail."""
