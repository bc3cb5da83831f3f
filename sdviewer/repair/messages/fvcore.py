"""The `Checkpointer` of fvcore and detectron2: keys of one module on a line, `head.{bias, weight}`.

A key of another shape is listed as missing too. Facts: fvcore `common/checkpoint.py`, and `_IncompatibleKeys` of it.
"""

from __future__ import annotations

import re

from sdviewer.repair.messages.load_message import Gathered
from sdviewer.repair.messages.phrases import LONGEST_ITEM, heads, phrase, sections, shape_of, unwrapped

NAME = "fvcore"
WORDS = ("Skip", "Shape", "checkpoint")

_TUPLE = r"(?:\(([\d,\s]{0,600})\)|torch\.Size\(\[([\d,\s]{0,600})\]\))"
_HEADS = heads(
    skip="Skip loading parameter",
    shape="Shape of ",
    missing=("model parameters or buffers are not found in the checkpoint", r"\s{0,20}:"),
    unexpected=("The checkpoint state_dict contains keys that are not used by the model", r"\s{0,20}:"),
)
_SKIPPED = re.compile(
    rf"\s{{1,80}}'([^']{{1,4000}})'{phrase(' to the model due to incompatible shapes: ')}{_TUPLE}"
    rf"{phrase(' in the checkpoint but ')}{_TUPLE}{phrase(' in the model')}"
)
_OF_BOTH = re.compile(
    rf"([^\s]{{1,4000}}){phrase(' in checkpoint is ')}{_TUPLE},{phrase(' while shape of ')}[^\s]{{1,4000}}"
    rf"{phrase(' in model is ')}{_TUPLE}"
)
_FOLDED = re.compile(r"\s*([^\s{}]*)(?:\{([^{}\n]*)\})?\s*")


def read(text: str, found: Gathered) -> bool:
    """Add what the text says; whether it says anything in this dialect."""
    understood = False
    for kind, _, rest in sections(_HEADS, text):
        if kind in ("skip", "shape"):
            item = (_SKIPPED if kind == "skip" else _OF_BOTH).match(rest[:LONGEST_ITEM])
            if item is None:
                continue
            key = unwrapped(item[1])
            shapes = (shape_of(item[2] or item[3] or ""), shape_of(item[4] or item[5] or ""))
            found.mismatched[key] = shapes
        else:
            (found.missing if kind == "missing" else found.unexpected).update(dict.fromkeys(_lines(rest)))
            found.ordered = False
        found.whole_head = understood = True
    if understood:
        for key in found.mismatched:
            found.missing.pop(key, None)
    return understood


def _lines(text: str) -> list[str]:
    """The keys of the lines up to one that holds none."""
    keys: list[str] = []
    for line in text.split("\n"):
        if not line.strip():
            if keys:
                break
            continue
        folded = _FOLDED.fullmatch(line) if len(line) <= LONGEST_ITEM else None
        if folded is None or not (folded[1] or folded[2]):
            break
        names = [""] if folded[2] is None else [name.strip() for name in folded[2].split(",")]
        keys += [folded[1] + name for name in names]
    return keys
