"""What a form asks for, as a value: the fields of a step's table, each with its label and kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "text",
    "lines",
    "templates",
    "rules",
    "pairs",
    "choice",
    "flag",
    "number",
    "numbers",
    "decimal",
    "value",
    "scalar",
    "scalars",
    "file",
]
"""One line; a list, one a line; the same where "" is one of them; rules as `pattern -> result`, one a line; texts as
`name = text`, one a line; one of a few; yes or no; a whole number; several of them; any number; a plain value of
Python; a number or a word; several of them; the path of a file.
"""

Group = Literal["keys", "shapes", "values", "sizes", "file"]
"""Where the Repair menu has an operation: its own list, or one of its submenus."""

ASKED = "?"
"""What the name of an entry begins with that only says which others are asked for, and is not in the table."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One field of the table. What is empty is left out of the step, unless it is `needed`.

    `choices` are (value, what a person reads); the first is the default and is left out. Of a "scalar" they are words
    to choose from. `when` is an entry that chooses and the values of it with which this one is asked for.
    """

    name: str
    label: str
    kind: Kind = "text"
    placeholder: str = ""
    needed: bool = False
    choices: tuple[tuple[str, str], ...] = ()
    when: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Form:
    """The form of one operation; `suggests` is the field that takes the prefix of the selected row.

    `selected` is the field that takes the key of the selected tensor, or "keys": the step is for this tensor alone.
    `effect` says in a word what becomes of a tensor that it changes.
    """

    op: str
    title: str
    icon: str
    entries: tuple[Entry, ...] = ()
    hint: str = ""
    tip: str = ""
    suggests: str = ""
    any_key: bool = True
    """Whether the step can be restricted to some keys."""
    group: Group = "keys"
    selected: str = ""
    effect: str = "renamed"
    at_once: bool = False
    """Whether it does something with nothing filled in."""

    @property
    def asked(self) -> tuple[Entry, ...]:
        """All that is asked for at the top: where it is about the selected tensors, which ones too."""
        return (*self.entries, COMMON[0]) if self.selected == "keys" else self.entries


COMMON = (
    Entry("keys", "Only &keys", "lines", "encoder.**\nre:weight$"),
    Entry("why", "&Why", "text", "A note for who reads the recipe"),
    Entry("expect.matched", "Expect &matched", "number", "any number"),
    Entry("expect.changed", "Expect c&hanged", "number", "any number"),
    Entry("expect.dead_rules", "Expect &dead rules", "number", "any number"),
)
"""What every step may have."""
