"""The rules that a cell suggests: its own template, and wider ones that leave out what does not change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sdviewer.repair.rules.cells import Cell, Component, Index, said

LAST = "{p}"
REST = "{rest...}"
TAKEN = "{rest}"
"""What `REST` took, in a result."""
MOST_CUTS = 8
"""Components that are tried to be left out at either end."""


class Candidate(NamedTuple):
    """A rule of a rename step. `context` are the components that stay as they are behind a `**`, -1 without one."""

    pattern: str
    result: str
    context: int = -1

    @property
    def is_literal(self) -> bool:
        """Whether it means one key."""
        return not any(ch in self.pattern for ch in "*{")

    @property
    def awkwardness(self) -> tuple[int, int, int, int]:
        """Smaller for what reads better: without `**`, else with one component before what changes; a module's name
        before a tensor's; short."""
        above = 0 if self.context < 0 else 1 + abs(self.context - 1)
        tail = 0 if self.pattern.endswith(LAST) else 2 if self.pattern.endswith(REST) else 1
        return (above, tail, self.result.count("-") + self.result.count("//"), len(self.pattern) + len(self.result))


def candidates_of(cell: Cell) -> Iterator[Candidate]:
    """The cell's rules from the narrowest to the widest."""
    old, new = cell.old, cell.new
    behind = _common(tuple(reversed(old)), tuple(reversed(new)))
    for cut in range(min(behind, MOST_CUTS) + 1):
        end, new_end = len(old) - cut, len(new) - cut
        if not end and not new_end:
            continue
        for tail, new_tail in _tails(cut):
            ahead = min(_common(old[:end], new[:new_end]), max(end - 1, 0), MOST_CUTS)
            for front in range(ahead + 1):
                found = _candidate(old[front:end], new[front:new_end], tail, new_tail, front, ahead)
                if found is not None:
                    yield found


def _tails(cut: int) -> tuple[tuple[str, str], ...]:
    if not cut:
        return (("", ""),)
    rest = (REST, TAKEN)
    return ((LAST, LAST), rest) if cut == 1 else (rest,)


def _candidate(
    old: Sequence[Component], new: Sequence[Component], tail: str, new_tail: str, front: int, ahead: int
) -> Candidate | None:
    if not old and not front:
        text = said((), new)
        return None if text is None or not tail else Candidate(tail, f"{text[1]}.{new_tail}" if text[1] else new_tail)
    text = said(old, new)
    if text is None or (not text[1] and not new_tail):
        return None
    pattern = ".".join(filter(None, (text[0], tail)))
    result = ".".join(filter(None, (text[1], new_tail)))
    if not front:
        return Candidate(pattern, result)
    return Candidate(f"**.{pattern}", f"**.{result}", ahead - front)


def _common(first: Sequence[Component], second: Sequence[Component]) -> int:
    """How many components at the beginning are the same on both sides."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other or any(isinstance(atom, Index) and atom.text != "{}" for atom in other):
            break
        count += 1
    return count
