"""The budgets as ratios, measured in one run on one machine: `python3 packaging/dev.py bench`. Never a timed test."""
