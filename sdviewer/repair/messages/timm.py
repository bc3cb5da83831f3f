"""What timm says where it loads pretrained weights that do not cover the model.

Facts: timm 1.0.31 `models/_builder.py`.
"""

from __future__ import annotations

from sdviewer.repair.messages.load_message import Gathered
from sdviewer.repair.messages.phrases import bare_keys, heads, phrase, sections

NAME = "timm"
WORDS = ("pretrained",)

_HEADS = heads(
    missing="Missing keys (",
    unexpected="Unexpected keys (",
    end=(") ", rf"(?:{phrase('discovered')}|{phrase('found')}){phrase(' while loading pretrained weights')}"),
)


def read(text: str, found: Gathered) -> bool:
    """Add what the text says; whether it says anything in this dialect."""
    lists: list[tuple[str, str]] = []
    understood = False
    for kind, _, rest in sections(_HEADS, text):
        if kind != "end":
            lists.append((kind, rest))
        elif lists:
            name, keys = lists.pop()
            lists.clear()
            (found.missing if name == "missing" else found.unexpected).update(dict.fromkeys(bare_keys(keys)[0]))
            found.whole_head = understood = True
    return understood
