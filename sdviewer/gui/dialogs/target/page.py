"""What the pages of the target dialog have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from sdviewer.gui.jobs import Body

Browse = Callable[[str, str], str]
"""Asks for a file with a title and a filter of names; "" where none was chosen."""

NOTHING_RUN: Final = "Nothing is imported or run in this step."


@dataclass(frozen=True, slots=True)
class Question:
    """What a page wants to be read: a text as UTF-8, or a path with the state dict that is meant in it."""

    text: bytes | None = None
    path: str = ""
    state_dict: str | None = None

    @property
    def params(self) -> dict[str, Any]:
        """As the worker is asked (engine.target_reading)."""
        if self.text is not None:
            return {}
        return {"path": self.path, **({} if self.state_dict is None else {"state_dict": self.state_dict})}

    @property
    def buffers(self) -> dict[str, bytes]:
        """What goes beside the parameters."""
        return {} if self.text is None else {"text": self.text}


@dataclass(frozen=True, slots=True)
class Order:
    """A model that a page wants to be built: the TARGET of engine.target_check, and how it is called."""

    target: Body
    name: str
    sentences: Sequence[Sequence[str]] = field(default_factory=tuple)


class TargetPage(QWidget):
    """One way to say what a file has to fit. `changed` tells that it says something else."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(8)

    def question(self) -> Question | None:
        """What is to be read, None for nothing."""
        return None

    def order(self) -> Order | None:
        """What is to be built where nothing is to be read, None for nothing."""
        return None

    def hints(self) -> Sequence[Sequence[str]]:
        """What can be given here, while there is nothing."""
        return ()

    def show_answer(self, body: Body) -> None:
        """What was read of it (READ)."""

    def foot(self) -> str:
        """What is run in this step."""
        return NOTHING_RUN
