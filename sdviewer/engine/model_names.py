"""A model as somebody names it: `package.module:Class`, `file.py:factory`, with arguments if it needs some."""

from __future__ import annotations

import ast
import json
import os
import re
from typing import Any

from sdviewer.errors import UsageError
from sdviewer.repair.wording import quoted

LONGEST = 100_000

_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_ASSIGNMENT = re.compile(r"\s*([^\W\d]\w*)\s*=\s*(\S+)\s*,?")
_NAMES = {"true": True, "false": False, "null": None}


def model_of_name(name: str, arguments: str = "", folder: str = "") -> dict[str, Any] | None:
    """What the process is asked to build for a name; None where it is no name of a model.

    `folder` is on the import path of a module, "" for the current one; of a file it is its own.

    Raises:
        UsageError: the arguments are none (code `bad_arguments`).
    """
    called, behind = name.strip(), ""
    if called.endswith(")") and "(" in called:
        called, _, behind = called[:-1].partition("(")
    where, colon, attribute = called.rpartition(":")
    if not colon or not _DOTTED.fullmatch(attribute):
        return None
    is_file = where.lower().endswith(".py")
    if not is_file and not _DOTTED.fullmatch(where):
        return None
    positional, keywords = _arguments(behind)
    more, named = _arguments(arguments)
    file = os.path.abspath(where) if is_file else ""  # noqa: PTH100  any text
    return {
        "file": file,
        "module": "" if is_file else where,
        "attribute": attribute,
        "folder": os.path.dirname(file) if is_file else os.path.abspath(folder or "."),  # noqa: PTH100, PTH120
        "arguments": repr([*positional, *more]),
        "keywords": repr({**keywords, **named}),
    }


def _arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    """Those in `depth=3, name="a"`, in a JSON object, or in `depth=3 name=a`; nothing in them is run.

    Raises:
        UsageError: they cannot be read.
    """
    text = text.strip()
    if not text:
        return [], {}
    try:
        if len(text) > LONGEST:
            raise ValueError
        if text.startswith("{"):
            return [], _keywords(json.loads(text))
        return _as_call(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        pass
    found = {}
    at = 0
    while at < len(text):
        one = _ASSIGNMENT.match(text, at) if len(text) <= LONGEST else None
        if one is None:
            raise _unreadable(text)
        found[one[1]] = _plain(one[2].rstrip(","), text)
        at = one.end()
    return [], found


def _keywords(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError
    return value


def _as_call(text: str) -> tuple[list[Any], dict[str, Any]]:
    call = ast.parse(f"f({text}\n)", mode="eval").body
    if not isinstance(call, ast.Call) or any(keyword.arg is None for keyword in call.keywords):
        raise ValueError
    return (
        [_literal(value) for value in call.args],
        {str(keyword.arg): _literal(keyword.value) for keyword in call.keywords},
    )


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in _NAMES:
        return _NAMES[node.id]
    return ast.literal_eval(node)


def _unreadable(text: str) -> UsageError:
    return UsageError(
        f"the arguments {quoted(text[:200])} cannot be read",
        remedy='Write depth=3, name="small", or JSON: {"depth": 3}.',
        code="bad_arguments",
    )


def _plain(text: str, arguments: str) -> Any:
    """A JSON value or a Python literal; else the text itself, unless it begins as one of them does."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    if text.startswith(("[", "(", "{", "'", '"')):
        raise _unreadable(arguments)
    return text
