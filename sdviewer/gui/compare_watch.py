"""The numbers of all pairs of a comparison: measured at once, what is in sight first, as those of a document are.

Of identical tensors only bytes are compared, at the speed of memory. What their norms are is measured after everything
else, where a module that changed holds some (docs/decisions/0013).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from PySide6.QtCore import QObject

from sdviewer.gui.jobs import Buffers, Jobs
from sdviewer.gui.survey_watch import Surveyed, SurveyWatch

WORDS: Final = ("Compared", "Compare")
NORM_WORDS: Final = ("Norms", "Measure")


class CompareWatch(SurveyWatch):
    """The one survey of a comparison. Its "tensors" are pairs."""

    service = "pair_survey"
    nothing = Surveyed(words=WORDS)

    def __init__(self, jobs: Jobs, tell: Callable[..., Any], parent: QObject) -> None:
        super().__init__(jobs, tell, "", parent)
        self._sides: Mapping[str, Any] = {}
        self._pairs: Buffers = {}
        self.measured = self._begins_with

    def compare(self, a: Mapping[str, Any], b: Mapping[str, Any], pairs: Buffers, nbytes: int) -> None:
        """Begin with the pairs of two files (engine.pair_survey), which hold so many bytes together.

        `pairs` are the buffers "pairs" and "measured".
        """
        self.stop()
        self._say(self.nothing)
        self._sides = {"a": dict(a), "b": dict(b)}
        self._pairs = pairs
        self._nbytes = nbytes
        self._asked_for = False
        self._begin_now()

    def _begins_with(self) -> Buffers:
        return self._pairs

    def _files(self) -> dict[str, Any]:
        return dict(self._sides)


class NormWatch(SurveyWatch):
    """The survey of the norms of identical tensors, on B's side. Nobody waits for it, and it is not offered."""

    lanes = "norms"
    nothing = Surveyed(words=NORM_WORDS)

    def __init__(self, jobs: Jobs, tell: Callable[..., Any], parent: QObject) -> None:
        super().__init__(jobs, tell, "", parent)
        self._wanted: Buffers = {}
        self.measured = lambda: self._wanted

    def begin(self, b: Mapping[str, Any], wanted: Buffers, nbytes: int, *, asked_for: bool) -> None:
        """Begin with so many bytes of the file B ({"path", "identity"}); `wanted` is the buffer "measured"."""
        self.forget()
        self._path, self._identity = str(b["path"]), dict(b["identity"])
        self._wanted = wanted
        self._nbytes = nbytes
        self._asked_for = asked_for
        self._begin_in_turn()
