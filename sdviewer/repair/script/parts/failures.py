"""How a program fails: one line, and the exit codes of `sdviewer repair`."""

from __future__ import annotations

import json


class RecipeError(Exception):
    """The recipe does not go through on this file: nothing is written."""

    exit_code = 1


class UsageError(RecipeError):
    """The request is wrong."""

    exit_code = 2


class InputError(RecipeError):
    """The file cannot be read."""

    exit_code = 3


class OutputError(RecipeError):
    """The result cannot be written."""

    exit_code = 4


def quoted(text: str) -> str:
    """A key between double quotes, printable whatever it holds."""
    return json.dumps(text)
