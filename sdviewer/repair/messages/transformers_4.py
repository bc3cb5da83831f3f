"""The warnings of `from_pretrained`: transformers 4, and diffusers, which writes all keys as one text.

Facts: transformers 4.46.3 `modeling_utils.py`; diffusers 0.42.1 `models/modeling_utils.py`.
"""

from __future__ import annotations

import re

from sdviewer.repair.messages.load_message import Gathered
from sdviewer.repair.messages.phrases import (
    LONGEST_KEY,
    SHAPE,
    heads,
    listed_keys,
    phrase,
    sections,
    shape_of,
    unwrapped,
)

NAME = "transformers 4"
WORDS = ("Some",)

_HEADS = heads(
    some="Some weights of",
    unexpected="were not used when initializing",
    missing=("newly initialized", r"\s{0,80}:"),
    shapes=("because the shapes did not match", r"\s{0,80}:"),
)
_CLASS = re.compile(
    rf"\s{{1,80}}([^\s:]{{1,400}}(?:\n[^\s:]{{1,400}}){{0,3}})\s{{1,80}}{phrase('were not initialized')}"
)
_CLASS_AND_LIST = re.compile(r"([^:]{0,400}):")
_BEHIND_KEY = re.compile(
    rf":{phrase(' found shape ')}{SHAPE}{phrase(' in the checkpoint and ')}{SHAPE}"
    rf"{phrase(' in the model instantiated')}"
)


def read(text: str, found: Gathered) -> bool:
    """Add what the text says; whether it says anything in this dialect."""
    understood = False
    begun = False
    for kind, _, rest in sections(_HEADS, text):
        if kind == "some":
            begun = True
            name = _CLASS.match(rest)
            if name is not None:
                found.model = found.model or unwrapped(name[1])
        elif begun:
            understood = True
            if kind == "shapes":
                _read_rows(rest, found)
            else:
                _read_list(kind, rest, found)
    found.whole_head = found.whole_head or understood
    return understood


def _read_rows(rest: str, found: Gathered) -> None:
    at = 0
    for row in _BEHIND_KEY.finditer(rest):
        key = unwrapped(rest[at : row.start()]).removeprefix("- ")
        if len(key) <= LONGEST_KEY:
            found.mismatched[key] = (shape_of(row[1]), shape_of(row[2]))
        at = row.end()


def _read_list(kind: str, rest: str, found: Gathered) -> None:
    if kind == "unexpected":
        name = _CLASS_AND_LIST.match(rest)
        if name is not None:
            found.model = found.model or unwrapped(name[1])
        rest = rest[name.end() :] if name is not None else ""
    keys, whole = listed_keys(rest)
    named = [part for key in keys for part in key.split(", ")]
    (found.unexpected if kind == "unexpected" else found.missing).update(dict.fromkeys(named))
    if not whole:
        found.cut(f"the list of {kind} keys")
