"""Where work runs: worker processes, progress, cancel; the same functions for the window and the command line.

Each open document has one worker process that owns its file, its checkpoint, its plan and its tree; numbers come from a
pool of the same kind of process. Nothing here knows Qt: results arrive on a thread, and the window queues them.
"""
