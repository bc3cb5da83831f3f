"""The answer of `load_state_dict(strict=False)`, and lists that people print under such names.

Facts: `_IncompatibleKeys` of torch 2.13; Lightning 2.6 `core/saving.py` warns where `strict` is off.
"""

from __future__ import annotations

import re

from sdviewer.repair.messages.load_message import Gathered
from sdviewer.repair.messages.phrases import heads, listed_keys, sections

NAME = "lists of keys"
WORDS = ("keys",)

_IS = r"\s{0,4}[:=]"
_HEADS = heads(
    ignore_case=True,
    missing=("missing_keys", _IS),
    missing_words=("missing keys", _IS),
    unexpected=("unexpected_keys", _IS),
    unexpected_words=("unexpected keys", _IS),
    missing_found=("Found keys that are in the model state dict but not in the checkpoint", _IS),
    unexpected_found=("Found keys that are not in the model state dict but in the checkpoint", _IS),
)
_OPENS = re.compile(r"\s{0,80}(?:set\(\s{0,4})?[\[{]")


def read(text: str, found: Gathered) -> bool:
    """Add what the text says; whether it says anything in this dialect."""
    understood = False
    for kind, _, rest in sections(_HEADS, text):
        if _OPENS.match(rest) is None:
            continue
        understood = True
        kind = kind.partition("_")[0]
        keys, whole = listed_keys(rest)
        (found.missing if kind == "missing" else found.unexpected).update(dict.fromkeys(keys))
        if not whole:
            found.cut(f"the list of {kind} keys")
    found.whole_head = found.whole_head or understood
    return understood
