"""The errors of diffusers' own loader, which names one key of another shape, or the missing keys without quotes.

Facts: diffusers `models/modeling_utils.py` and `models/model_loading_utils.py`, and messages that people posted.
Its other words are torch's and those of transformers 4.
"""

from __future__ import annotations

import re

from sdviewer.repair.messages.load_message import Gathered
from sdviewer.repair.messages.phrases import (
    LONGEST_ITEM,
    SHAPE,
    bare_keys,
    heads,
    phrase,
    sections,
    shape_of,
    unwrapped,
)

NAME = "diffusers"
WORDS = ("Cannot",)

_HEADS = heads(
    cannot="Cannot load ",
    because="because ",
    shape="expected shape ",
    missing=("the following keys are missing", r"\s{0,20}:"),
    please="Please make sure to pass",
)
_SIZES = rf"(?:{SHAPE}|{phrase('tensor(...')}[^()]{{0,400}}{phrase('size=(')}([\d,\s]{{0,600}})\)[^()]{{0,400}}\))"
_TWO = re.compile(rf"{_SIZES},{phrase(' but got ')}{_SIZES}")
_CLASS = re.compile(r"<class '(?:[\w.]{0,400}\.)?(\w{1,200})'>")


def read(text: str, found: Gathered) -> bool:
    """Add what the text says; whether it says anything in this dialect."""
    understood = False
    key = ""
    for kind, _, rest in sections(_HEADS, text):
        if kind == "cannot":
            name = _CLASS.match(rest)
            if name is not None:
                found.model = found.model or name[1]
        elif kind == "because":
            key = unwrapped(rest) if len(rest) <= 4000 else ""
        elif kind == "shape" and key:
            two = _TWO.match(rest[:LONGEST_ITEM])
            if two is None:
                continue
            model, checkpoint = (shape_of(two[1] or two[2] or ""), shape_of(two[3] or two[4] or ""))
            found.mismatched[key] = (checkpoint, model)
            found.incomplete = found.whole_head = understood = True
            found.note("diffusers tells of one key at a time: there may be more.")
        elif kind == "missing":
            keys, whole = bare_keys(rest.strip().removesuffix("."))
            found.missing.update(dict.fromkeys(keys))
            found.ordered = False
            found.whole_head = understood = True
            if not whole:
                found.cut("the list of missing keys")
    return understood
