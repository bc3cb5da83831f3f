"""The numbers of all pairs of a comparison: measured at once, what is in sight first, as a document's statistics are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from PySide6.QtCore import QObject

from sdviewer.gui.jobs import Buffers, Jobs
from sdviewer.gui.survey_watch import Surveyed, SurveyWatch

WORDS: Final = ("Compared", "Compare")


class CompareWatch(SurveyWatch):
    """The one survey of a comparison. Its "tensors" are pairs."""

    service = "pair survey"
    nothing = Surveyed(words=WORDS)

    def __init__(self, jobs: Jobs, tell: Callable[..., Any], parent: QObject) -> None:
        super().__init__(jobs, tell, "", parent)
        self._sides: Mapping[str, Any] = {}
        self._pairs: Buffers = {}
        self.measured = self._begins_with

    def compare(self, a: tuple[str, Mapping[str, int]], b: tuple[str, Mapping[str, int]], pairs: memoryview) -> None:
        """Begin with the pairs of two files, each a path and an identity."""
        self.stop()
        self._say(self.nothing)
        self._sides = {name: {"path": path, "identity": dict(identity)} for name, (path, identity) in
                       (("a", a), ("b", b))}
        self._pairs = {"pairs": pairs}
        self._nbytes = int(a[1]["size"]) + int(b[1]["size"])
        self._asked_for = False
        self._begin_now()

    def _begins_with(self) -> Buffers:
        return self._pairs

    def _files(self) -> dict[str, Any]:
        return dict(self._sides)
