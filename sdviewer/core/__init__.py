"""Values and pure functions: what a checkpoint is, said without a file, a window or a process.

Nothing here touches disk, imports torch or knows Qt.
"""
