"""Loaders that stop at the first thing: torch's distributed checkpoints, and accelerate.

Facts: torch 2.13 `distributed/checkpoint/default_planner.py`; accelerate `utils/modeling.py`, which names the last
component of a key only.
"""

from __future__ import annotations

import re

from sdviewer.core import text as words
from sdviewer.repair.messages.load_message import Gathered
from sdviewer.repair.messages.phrases import LONGEST_ITEM, SHAPE, heads, phrase, sections, shape_of, unwrapped
from sdviewer.repair.wording import quoted

NAME = "one at a time"
WORDS = ("Missing", "saved", "tensor")

_HEADS = heads(
    missing=("Missing key in checkpoint state_dict", r"\s{0,20}:"),
    saved="Size mismatch between saved ",
    set="Trying to set a tensor of shape ",
)
_ONE = re.compile(r"\s{0,20}([^\s]{1,4000}?)\.?(?:\s|$)")
_BOTH = re.compile(rf"{SHAPE}{phrase(' and current: ')}{SHAPE}{phrase(' for ')}([^\s]{{1,4000}})")
_LAST = re.compile(rf'{SHAPE}{phrase(" in ")}"([^"]{{1,4000}})"{phrase(" (which has shape ")}{SHAPE}')


def read(text: str, found: Gathered) -> bool:
    """Add what the text says; whether it says anything in this dialect."""
    understood = False
    for kind, _, rest in sections(_HEADS, text):
        item = {"missing": _ONE, "saved": _BOTH, "set": _LAST}[kind].match(rest[:LONGEST_ITEM])
        if item is None:
            continue
        understood = True
        if kind == "missing":
            found.missing[item[1]] = None
        elif kind == "saved":
            found.mismatched[unwrapped(item[3]).rstrip(".")] = (shape_of(item[1]), shape_of(item[2]))
        else:
            found.note(
                f"Some tensor whose key ends in {quoted(unwrapped(item[2]))} is {words.shape(shape_of(item[1]))} in "
                f"the checkpoint and {words.shape(shape_of(item[3]))} in the model; its module is not told."
            )
    if understood:
        found.incomplete = found.whole_head = True
        found.note("Its loader tells of one key at a time: there may be more.")
    return understood
