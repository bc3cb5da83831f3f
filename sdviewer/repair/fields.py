"""Reads the fields of one table of a recipe, with errors that name the field and its line."""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from sdviewer.errors import UsageError
from sdviewer.repair.wording import quoted

Scalar: TypeAlias = "bool | int | float | str"
"""A number as a recipe holds it; "nan", "inf" and complex numbers ("1+2j") are texts."""


def fits_64_bits(value: int) -> bool:
    """Whether an integer is one of int64 or of uint64."""
    return -(1 << 63) <= value < 1 << 64


class FieldReader:
    """One table; every field must be asked for before `finish`, which refuses what is left.

    `where` names the table for people ("step 3 (rename)"), `path` the recipe; `lines` gives the line of a field, and
    under "" that of the table itself.
    """

    def __init__(self, table: Mapping[str, Any], where: str, path: str = "", lines: Mapping[str, int] | None = None):
        self._table = table
        self._where = where
        self._path = path
        self._lines = lines or {}
        self._known: list[str] = []

    def error(self, name: str, reason: str, remedy: str = "", code: str = "bad_recipe") -> UsageError:
        """What is wrong with one field, to be raised."""
        line = self._lines.get(name) or self._lines.get("")
        place = f"line {line}, {self._where}" if line else self._where
        return UsageError(f"{place}: {reason}", path=self._path, remedy=remedy, code=code)

    def has(self, name: str) -> bool:
        """Whether the field is there."""
        self._known.append(name)
        return name in self._table

    def is_list(self, name: str) -> bool:
        """Whether the field is there and holds several values."""
        return self.has(name) and bool(self._table[name]) and isinstance(self._table[name], list)

    def text(self, name: str, default: str | None = None) -> str:
        """A text; needed where there is no default."""
        if not self.has(name):
            if default is None:
                raise self.error("", f"`{name}` is missing")
            return default
        return self._text(name, self._table[name])

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; empty where the field is missing."""
        if not self.has(name):
            return ()
        value = self._table[name]
        if not isinstance(value, list):
            raise self.error(name, f"`{name}` must be a list of texts", f'Write {name} = ["..."].')
        return tuple([self._text(name, item) for item in value])

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        """A list of pairs of texts."""
        value = self._table[name] if self.has(name) else []
        if not isinstance(value, list) or not all(isinstance(item, list) and len(item) == 2 for item in value):
            raise self.error(name, f"`{name}` must be a list of [pattern, result]")
        return tuple([(self._text(name, item[0]), self._text(name, item[1])) for item in value])

    def texts_by_name(self, name: str) -> tuple[tuple[str, str], ...]:
        """A table of texts, or pairs of texts where a name is none that a table can have."""
        value = self._table[name] if self.has(name) else {}
        if isinstance(value, list):
            return self.pairs(name)
        if not isinstance(value, Mapping):
            raise self.error(name, f"`{name}` must be a table of texts", f'Write {name} = {{ name = "text" }}.')
        return tuple([(str(inner), self._text(name, item)) for inner, item in value.items()])

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """One of a few words."""
        value = self.text(name, default)
        if value != default and value not in choices:
            raise self.error(name, f"`{name}` is {quoted(value)}", f"It can be {' or '.join(map(quoted, choices))}.")
        return value

    def boolean(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._table[name] if self.has(name) else default
        if not isinstance(value, bool):
            raise self.error(name, f"`{name}` must be true or false")
        return value

    def plain(self, name: str) -> bool | int | float | str | None:
        """A bool, a number, a text, or `{ repr = "None" }`."""
        value = self._table[name] if self.has(name) else self.text(name)
        if isinstance(value, Mapping) and dict(value) == {"repr": "None"}:
            return None
        return value if isinstance(value, bool | int | float) else self._text(name, value)

    def count(self, name: str) -> int | None:
        """A whole number from 0, None where the field is missing."""
        if not self.has(name):
            return None
        value = self._integer(name, self._table[name])
        if value < 0:
            raise self.error(name, f"`{name}` must be a whole number from 0")
        return value

    def integer(self, name: str, default: int | None = None) -> int | None:
        """A whole number, which may be negative; `default` where the field is missing."""
        return self._integer(name, self._table[name]) if self.has(name) else default

    def dimension(self, name: str, default: int) -> int:
        """A whole number; `default` where the field is missing."""
        found = self.integer(name, default)
        assert found is not None
        return found

    def integers(self, name: str, word: str = "") -> tuple[int, ...] | None:
        """A list of whole numbers, None where the field is missing or says `word`."""
        value = self._table[name] if self.has(name) else word
        if value == word:
            return None
        if not isinstance(value, list):
            raise self.error(name, f"`{name}` must be a list of whole numbers", f"Write {name} = [0, 1].")
        return tuple([self._integer(name, item) for item in value])

    def number(self, name: str, default: float) -> float:
        """A number, not a text; `default` where the field is missing."""
        value = self._table[name] if self.has(name) else default
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(name, f"`{name}` must be a number")
        self._check_size(name, value)
        if not math.isfinite(value):
            raise self.error(name, f"`{name}` must be a finite number")
        return value

    def scalar(self, name: str) -> Scalar | None:
        """A number, true or false, or a text; None where the field is missing."""
        return self._scalar(name, self._table[name]) if self.has(name) else None

    def scalars(self, name: str) -> tuple[Scalar, ...] | None:
        """A list of what `scalar` reads, None where the field is missing."""
        if not self.has(name):
            return None
        value = self._table[name]
        if not isinstance(value, list):
            raise self.error(name, f"`{name}` must be a list of numbers, row by row", f"Write {name} = [0.5, 1.0].")
        return tuple([self._scalar(name, item) for item in value])

    def table(self, name: str) -> Mapping[str, Any]:
        """A table inside this one; empty where the field is missing."""
        value = self._table[name] if self.has(name) else {}
        if not isinstance(value, Mapping):
            raise self.error(name, f"`{name}` must be a table")
        return value

    def tables(self, name: str) -> list[Mapping[str, Any]]:
        """A list of tables; empty where the field is missing."""
        value = self._table[name] if self.has(name) else []
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            raise self.error(name, f"`{name}` must be a list of tables", f"Write [[{name}]] above each.")
        return list(value)

    def inside(self, name: str) -> FieldReader:
        """A reader of the table under `name`."""
        line = self._lines.get(name) or self._lines.get("")
        return FieldReader(self.table(name), f"{self._where}, {name}", self._path, {"": line} if line else None)

    def finish(self) -> None:
        """Refuse fields nobody asked for."""
        for name in self._table:
            if name not in self._known:
                close = difflib.get_close_matches(str(name), self._known, 1, 0.5)
                hint = f"Did you mean `{close[0]}`?" if close else f"Known: {', '.join(self._known)}."
                raise self.error(str(name), f"unknown field {quoted(str(name))}", hint)

    def _integer(self, name: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.error(name, f"`{name}` must hold whole numbers")
        self._check_size(name, value)
        return value

    def _check_size(self, name: str, value: float) -> None:
        """Refuse integers of more than 64 bits: no tensor holds them, and neither does a float all of them."""
        if isinstance(value, int) and not fits_64_bits(value):
            raise self.error(name, f"`{name}` holds an integer of more than 64 bits", "Write it as 1e30.")

    def _scalar(self, name: str, value: object) -> Scalar:
        """What is not finite is its text, so that equal steps are equal."""
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        if isinstance(value, (bool, int, float)):
            self._check_size(name, value)
            return value
        return self._text(name, value)

    def _text(self, name: str, value: object) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, Mapping) and list(value) == ["repr"] and isinstance(value["repr"], str):
            try:
                literal = ast.literal_eval(value["repr"])
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                literal = None
            if isinstance(literal, str):
                return literal
            remedy = "Write it as Python does: { repr = '\"\\ud800\"' }."
            raise self.error(name, f"`{name}`: repr holds no Python string", remedy)
        raise self.error(name, f"`{name}` must be a text")
