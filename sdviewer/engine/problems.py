"""What is odd or damaged in a file, as the window gets it beside what the file is."""

from __future__ import annotations

from typing import Any, Final

from sdviewer.core.checkpoint import Checkpoint

MOST: Final = 1000
"""Problems that are told; the view of problems asks for all of them, page by page."""


def told_problems(checkpoint: Checkpoint) -> dict[str, Any]:
    """{"problems": [[severity, code, message, where]], "files": n that it consists of}."""
    return {"problems": list(map(list, checkpoint.problems[:MOST])), "files": max(1, len(checkpoint.shards))}
