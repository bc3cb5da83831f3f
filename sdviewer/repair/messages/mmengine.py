"""`load_state_dict` of mmengine and mmcv: lists without quotes; the sizes are in torch's words.

It never reports counters of a BatchNorm. Facts: mmengine 0.10.7 `runner/checkpoint.py`.
"""

from __future__ import annotations

import re

from sdviewer.repair.messages.load_message import Gathered
from sdviewer.repair.messages.phrases import bare_keys, heads, sections

NAME = "mmengine"
WORDS = ("source",)

_HEADS = heads(
    title="The model and loaded state dict do not match exactly",
    unexpected=("unexpected key in source state_dict", r"\s{0,20}:"),
    missing=("missing keys in source state_dict", r"\s{0,20}:"),
    other="size mismatch for",
)
_BLANK_LINE = re.compile(r"\n[ \t]*\n")


def read(text: str, found: Gathered) -> bool:
    """Add what the text says; whether it says anything in this dialect."""
    understood = False
    for kind, _, rest in sections(_HEADS, text):
        if kind == "title":
            found.whole_head = understood = True
        elif kind in ("unexpected", "missing"):
            understood = True
            keys, whole = bare_keys(_BLANK_LINE.split(rest, 1)[0])
            (found.unexpected if kind == "unexpected" else found.missing).update(dict.fromkeys(keys))
            if not whole:
                found.cut(f"the list of {kind} keys")
    return understood
