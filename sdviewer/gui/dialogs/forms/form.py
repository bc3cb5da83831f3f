"""What a form asks for, as a value: the fields of a step's table, each with its label and kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "lines", "rules", "choice", "flag", "number", "value"]
"""One line; a list, one a line; rules as `pattern -> result`, one a line; one of a few; yes or no; a whole number; a
plain value of Python.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One field of the table. What is empty is left out of the step, unless it is `needed`.

    `choices` are (value, what a person reads); the first is the default and is left out.
    """

    name: str
    label: str
    kind: Kind = "text"
    placeholder: str = ""
    needed: bool = False
    choices: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Form:
    """The form of one operation; `suggests` is the field that takes the prefix of the selected row."""

    op: str
    title: str
    icon: str
    entries: tuple[Entry, ...] = ()
    hint: str = ""
    tip: str = ""
    suggests: str = ""
    any_key: bool = True
    """Whether the step can be restricted to some keys."""


COMMON = (
    Entry("keys", "Only &keys", "lines", "encoder.**\nre:weight$"),
    Entry("why", "&Why", "text", "A note for who reads the recipe"),
    Entry("expect.matched", "Expect &matched", "number", "any number"),
    Entry("expect.changed", "Expect c&hanged", "number", "any number"),
    Entry("expect.dead_rules", "Expect &dead rules", "number", "any number"),
)
"""What every step may have."""
