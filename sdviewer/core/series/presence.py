"""Which keys are there when and with which shape, over the files of a series.

The files of a run mostly have the same keys: what is kept is each different set once (a layout), and which one a file
has. For the screen keys that come, go and change together are one row, under the module that they are all of.
"""

from __future__ import annotations

import itertools
import re
from array import array
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from sdviewer.core import text

MOST_CELLS: Final = 20_000_000
"""Keys times different layouts that are kept; the keys of files beyond are not."""

NO_LAYOUT: Final = -1

Form = tuple[tuple[int, ...], str]
"""A shape (elements) and a dtype."""


class Run(NamedTuple):
    """From step `start` to the one before `stop` the keys are there, in their `form`-th shape and dtype."""

    start: int
    stop: int
    form: int


class Row(NamedTuple):
    """Keys that come, go and change together: `keys` of them, all below `name`.

    `forms` are shape and dtype in words, of the first of them, in the order in which they came.
    """

    name: str
    keys: int
    runs: tuple[Run, ...]
    forms: tuple[str, ...]

    def always(self, steps: int) -> bool:
        """Whether they are in every file and never change."""
        return self.runs == (Run(0, steps, 0),)

    def changes(self) -> list[int]:
        """The steps at which shape or dtype are others than where the keys were last."""
        return [b.start for a, b in itertools.pairwise(self.runs) if a.form != b.form]


class Layouts:
    """The different sets of keys that files have, each with its shapes and dtypes."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        """All keys that were ever seen; one that came later stands behind the one that it follows in its file."""
        self.layouts: list[tuple[array[int], array[int]]] = []
        """For each layout the keys (numbers in order of their first coming) and their forms."""
        self.forms: list[Form] = []
        self._key_numbers: dict[str, int] = {}
        self._names: list[str] = []
        self._form_numbers: dict[Form, int] = {}
        self._known: dict[tuple[bytes, bytes], int] = {}
        self._cells = 0

    def add(self, entries: Iterable[tuple[str, tuple[int, ...], str]]) -> int:
        """The number of the layout of a file with these keys, shapes and dtypes, `NO_LAYOUT` where it is too much."""
        keys, forms = array("i"), array("i")
        names: list[str] = []
        for key, shape, dtype in entries:
            keys.append(self._key_numbers.setdefault(key, len(self._key_numbers)))
            forms.append(self._form_numbers.setdefault((shape, dtype), len(self._form_numbers)))
            names.append(key)
        self.forms = list(self._form_numbers)
        signature = keys.tobytes(), forms.tobytes()
        if (known := self._known.get(signature)) is not None:
            return known
        self._merge(names)
        if (len(self.layouts) + 1) * len(self._key_numbers) > MOST_CELLS and self.layouts:
            return NO_LAYOUT
        self._known[signature] = len(self.layouts)
        self.layouts.append((keys, forms))
        return len(self.layouts) - 1

    def number(self, key: str) -> int:
        """The number of a key, in the order of their first coming."""
        return self._key_numbers[key]

    def name(self, number: int) -> str:
        """The key of a number."""
        return self._names[number]

    def _merge(self, names: Sequence[str]) -> None:
        """Put keys that are new behind those that they follow."""
        new: dict[str | None, list[str]] = {}
        before: str | None = None
        there = set(self.keys)
        for name in names:
            if name in there:
                before = name
            else:
                new.setdefault(before, []).append(name)
        if new:
            ordered = list(new.get(None, ()))
            for key in self.keys:
                ordered.append(key)
                ordered += new.get(key, ())
            self.keys = list(dict.fromkeys(ordered))
            self._names = list(self._key_numbers)


def presence(layouts: Layouts, of_steps: Sequence[int]) -> list[Row]:
    """The rows, in the order of the keys; `of_steps` is the layout of each step.

    Of a step whose layout is not known (`NO_LAYOUT`) nothing is said: it is taken to be like the one before it, or the
    first that is known.
    """
    of_steps = _without_gaps(of_steps)
    used = sorted({layout for layout in of_steps if layout != NO_LAYOUT})
    columns: list[list[int]] = []
    for layout in used:
        column = [-1] * len(layouts.keys)
        keys, forms = layouts.layouts[layout]
        for key, form in zip(keys, forms, strict=True):
            column[key] = form
        columns.append(column)
    if not columns:
        return []
    # In the order of the steps, so that forms are counted in the order in which they come.
    first_use = sorted(range(len(used)), key=lambda at: of_steps.index(used[at]))
    histories = list(zip(*[columns[at] for at in first_use], strict=True))
    patterns: dict[tuple[int, ...], int] = {}
    pattern_of = [patterns.setdefault(_pattern(history), len(patterns)) for history in histories]
    homes = _homes(layouts, pattern_of)
    place = {used[at]: nth for nth, at in enumerate(first_use)}
    by_pattern = [_runs([pattern[place[layout]] for layout in of_steps]) for pattern in patterns]
    rows: dict[str, list[int]] = {}
    for name in layouts.keys:
        number = layouts.number(name)
        if histories[number].count(-1) < len(histories[number]):
            rows.setdefault(homes[number], []).append(number)
    made = [
        Row(name, len(numbers), by_pattern[pattern_of[numbers[0]]], _forms(layouts, histories[numbers[0]]))
        for name, numbers in rows.items()
    ]
    return _fold(made)


def _without_gaps(of_steps: Sequence[int]) -> list[int]:
    last = next((layout for layout in of_steps if layout != NO_LAYOUT), NO_LAYOUT)
    filled = []
    for layout in of_steps:
        last = last if layout == NO_LAYOUT else layout
        filled.append(last)
    return filled


def _pattern(history: tuple[int, ...]) -> tuple[int, ...]:
    """What keys of other shapes can have in common: -1 where it is not there, else the how manieth form it is."""
    seen: dict[int, int] = {}
    return tuple([-1 if form < 0 else seen.setdefault(form, len(seen)) for form in history])


def _runs(forms: Sequence[int]) -> tuple[Run, ...]:
    runs = []
    start = 0
    for form, group in itertools.groupby(forms):
        stop = start + len(list(group))
        if form >= 0:
            runs.append(Run(start, stop, form))
        start = stop
    return tuple(runs)


def _forms(layouts: Layouts, history: Sequence[int]) -> tuple[str, ...]:
    there = dict.fromkeys(form for form in history if form >= 0)
    return tuple([f"{text.shape(shape)} {dtype}" for shape, dtype in map(layouts.forms.__getitem__, there)])


def _homes(layouts: Layouts, pattern_of: Sequence[int]) -> list[str]:
    """For each key the highest module all of whose keys come, go and change as it does; else the key itself."""
    mixed = -1
    common = common_prefix(layouts.keys)
    found: dict[str, int] = {}
    for number in range(len(layouts.keys)):
        for prefix in _prefixes(layouts.name(number), common):
            if found.setdefault(prefix, pattern_of[number]) != pattern_of[number]:
                found[prefix] = mixed
    homes = []
    for number in range(len(layouts.keys)):
        key = layouts.name(number)
        homes.append(next((prefix for prefix in _prefixes(key, common) if found[prefix] != mixed), key))
    return homes


def _prefixes(key: str, common: str) -> list[str]:
    """The modules that a key is of, from the top down, and itself; what all keys begin with is no choice."""
    parts = key[len(common) :].split(".")
    return [common + ".".join(parts[: n + 1]) for n in range(len(parts))]


def common_prefix(keys: Sequence[str]) -> str:
    """The modules that all keys are in, with the dot behind: `module.`; "" where there is none."""
    if len(keys) < 2:
        return ""
    low, high = min(keys), max(keys)
    same = 0
    for a, b in zip(low.split(".")[:-1], high.split(".")[:-1], strict=False):
        if a != b:
            break
        same += len(a) + 1
    return low[:same]


_NUMBERED = re.compile(r"^(.*?)(\d+)$")


def _fold(rows: Sequence[Row]) -> list[Row]:
    """Modules of one list that come, go and change together as one row: `blocks.0 - 5`."""
    made: list[Row] = []
    lists = [_NUMBERED.match(row.name) for row in rows]
    at = 0
    while at < len(rows):
        hit, last = lists[at], at
        while hit is not None and last + 1 < len(rows):
            after = lists[last + 1]
            if after is None or after[1] != hit[1] or rows[last + 1].runs != rows[at].runs:
                break
            last += 1
        row = rows[at]
        if last > at and hit is not None:
            end = lists[last]
            assert end is not None
            number = sum(one.keys for one in rows[at : last + 1])
            row = Row(f"{row.name} \N{EN DASH} {end[2]}", number, row.runs, row.forms)
        made.append(row)
        at = last + 1
    return made


def changed_first(rows: Sequence[Row], steps: int, most: int) -> tuple[list[Row], int]:
    """At most so many rows in their order, those that change before those that do not; and how many are left out."""
    if len(rows) <= most:
        return list(rows), 0
    ranked = sorted(range(len(rows)), key=lambda at: rows[at].always(steps))[:most]
    return [rows[at] for at in sorted(ranked)], len(rows) - most
