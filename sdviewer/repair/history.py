"""The edit history of a window's recipe, as a value: every change gives a new one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from sdviewer.repair.operations import Operation


class State(NamedTuple):
    """The steps after one edit, and what the edit was, as undo names it."""

    steps: tuple[Operation, ...]
    label: str


@dataclass(frozen=True, slots=True)
class History:
    """The states a recipe went through; `index` is the present one, `saved` the steps that a file holds."""

    states: tuple[State, ...] = (State((), ""),)
    index: int = 0
    saved: tuple[Operation, ...] = ()

    @classmethod
    def of(cls, steps: tuple[Operation, ...]) -> History:
        """A history that begins with these steps, as they are saved."""
        return cls((State(steps, ""),), 0, steps)

    @property
    def steps(self) -> tuple[Operation, ...]:
        """The recipe's steps as they are now."""
        return self.states[self.index].steps

    @property
    def is_dirty(self) -> bool:
        """Whether the steps differ from those saved."""
        return self.steps != self.saved

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to take back."""
        return self.index > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is an edit to make again."""
        return self.index + 1 < len(self.states)

    @property
    def undo_label(self) -> str:
        """What `undo` would take back, "" for nothing."""
        return self.states[self.index].label if self.can_undo else ""

    @property
    def redo_label(self) -> str:
        """What `redo` would make again, "" for nothing."""
        return self.states[self.index + 1].label if self.can_redo else ""

    def undo(self) -> History:
        """The state before; itself where there is none."""
        return replace(self, index=self.index - 1) if self.can_undo else self

    def redo(self) -> History:
        """The state after; itself where there is none."""
        return replace(self, index=self.index + 1) if self.can_redo else self

    def add(self, operation: Operation) -> History:
        """One more step at the end."""
        return self._edit((*self.steps, operation), operation.label)

    def toggle(self, i: int) -> History:
        """Switch step `i` off or on."""
        step = self.steps[i]
        verb = "Switch off" if step.enabled else "Switch on"
        return self._put(i, replace(step, enabled=not step.enabled), f"{verb}: {step.label}")

    def switch_off_all(self) -> History:
        """Keep every step, and let none do anything."""
        return self._edit(tuple(replace(step, enabled=False) for step in self.steps), "Switch off all steps")

    def remove(self, i: int) -> History:
        """Take step `i` out."""
        return self._edit(self.steps[:i] + self.steps[i + 1 :], f"Remove: {self.steps[i].label}")

    def change(self, i: int, operation: Operation) -> History:
        """Put another operation in the place of step `i`."""
        return self._put(i, operation, f"Change: {operation.label}")

    def move(self, i: int, to: int) -> History:
        """Take step `i` out and put it in so that it becomes step `to`."""
        steps = list(self.steps)
        step = steps.pop(i)
        steps.insert(to, step)
        return self._edit(tuple(steps), f"Move: {step.label}")

    def mark_saved(self) -> History:
        """The steps as they are now are what the file holds."""
        return replace(self, saved=self.steps)

    def _put(self, i: int, operation: Operation, label: str) -> History:
        return self._edit((*self.steps[:i], operation, *self.steps[i + 1 :]), label)

    def _edit(self, steps: tuple[Operation, ...], label: str) -> History:
        """A new state after the present one; what was undone is forgotten."""
        return replace(self, states=(*self.states[: self.index + 1], State(steps, label)), index=self.index + 1)
