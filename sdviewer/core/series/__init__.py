"""A series: several checkpoints of one run, in the order of their steps.

Pure functions over what the headers say: which order (`order`), which keys are there when and with which shape
(`presence`), which numbers the files state of themselves (`metrics`), and which modules are looked at over the steps
(`modules`).
"""
