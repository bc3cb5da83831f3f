"""torch before 0.4, which raised at the first thing it met: one unexpected key, or a set of missing ones.

Facts: the wordings as they stand in messages that people posted; Python 2 writes the set as `set([...])`.
"""

from __future__ import annotations

import re

from sdviewer.repair.messages.load_message import Gathered
from sdviewer.repair.messages.phrases import heads, listed_keys, phrase, sections, unwrapped

NAME = "torch before 0.4"
WORDS = ("unexpected", "missing")

_HEADS = heads(unexpected=("unexpected key ", "[\"']"), missing=("missing keys in state_dict: ", "[\"']"))
_ONE = re.compile(rf"([^\"']{{1,4000}})[\"']{phrase(' in state_dict')}")

_ESCAPED_QUOTE = re.compile(r"\\\s{0,80}([\"'])")


def read(text: str, found: Gathered) -> bool:
    """Add what the text says; whether it says anything in this dialect."""
    understood = False
    for kind, _, rest in sections(_HEADS, text):
        if kind == "unexpected":
            one = _ONE.match(rest)
            if one is None:
                continue
            found.unexpected[unwrapped(one[1])] = None
        else:
            # The message is the repr of a text in which the set is quoted.
            keys, whole = listed_keys(_ESCAPED_QUOTE.sub(r"\1", rest))
            found.missing.update(dict.fromkeys(keys))
            found.ordered = False
            if not whole:
                found.cut("the list of missing keys")
        understood = True
    if understood:
        found.whole_head = True
        found.incomplete = True
        found.note("torch before 0.4 tells one thing at a time: there may be more.")
    return understood
