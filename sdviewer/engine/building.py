"""What the worker answers that has somebody's model built: a class, a factory or a config, on that person's word.

It is none of those that are fenced in: what is built there is the user's own code, in a child of this process
(`engine.models`). It opens no checkpoint.

    build     {"target": TARGET of engine.target_check, with "run"} -> {}; buffer "target" (a packed Target)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sdviewer.core.key_table import KeyTable
from sdviewer.core.progress import Progress
from sdviewer.engine.fitting import read_wanted
from sdviewer.engine.frames import Answer
from sdviewer.engine.models import TIMEOUT
from sdviewer.engine.packing import packed

NO_KEYS = KeyTable((), (), ())


class Building:
    """The service; each request is answered for itself."""

    def __init__(self) -> None:
        self.requests: Mapping[str, Callable[[Mapping[str, Any], Progress], Answer]] = {"build": self.build}

    def build(self, params: Mapping[str, Any], progress: Progress) -> Answer:
        """Build the model and ask for its keys."""
        wanted = params["target"]
        target = read_wanted(
            wanted["name"],
            wanted.get("text"),
            NO_KEYS,
            run=True,
            timeout=float(wanted.get("timeout", TIMEOUT)),
            folder=wanted.get("folder", ""),
            progress=progress,
        ).target
        return Answer({}, {"target": packed(target)})
