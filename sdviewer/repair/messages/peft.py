"""What PEFT, and what loads adapters into diffusers' models, warn of: adapter keys without a module.

Facts: PEFT `peft_model.py` (`from_pretrained`), diffusers 0.42 `utils/peft_utils.py` and its training scripts, which
say "not found". Shapes that differ are told in torch's words. A model has the adapter's name in its keys
(`lora_A.default.weight`), which its file has not.
"""

from __future__ import annotations

import re
from dataclasses import replace

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.messages.load_message import Gathered, LoadMessage
from sdviewer.repair.messages.phrases import bare_keys, heads, listed_keys, sections

NAME = "PEFT"
WORDS = ("adapter",)

_IS = r"\s{0,4}:"
_HEADS = heads(
    missing=("Found missing adapter keys while loading the checkpoint", _IS),
    missing_words=("led to missing keys in the model", _IS),
    unexpected=("led to unexpected keys found in the model", _IS),
    unexpected_words=("led to unexpected keys not found in the model", _IS),
)
_OPENS = re.compile(r"\s{0,80}\[")
_ENDS = re.compile(r"\.(?: |\s*$)")
_NAMED = re.compile(r"(\.lora_(?:A|B|embedding_A|embedding_B|magnitude_vector))\.[^.]+(?=(?:\.weight)?$)")

_BARE = re.compile(r"\.lora_(?:A|B|embedding_A|embedding_B|magnitude_vector)(?:\.weight)?$")


def read(text: str, found: Gathered) -> bool:
    """Add what the text says; whether it says anything in this dialect."""
    understood = False
    for kind, _, rest in sections(_HEADS, text):
        kind = kind.partition("_")[0]
        keys, whole = listed_keys(rest) if _OPENS.match(rest) else bare_keys(_ENDS.split(rest, 1)[0])
        (found.missing if kind == "missing" else found.unexpected).update(dict.fromkeys(keys))
        understood = found.whole_head = True
        found.ordered = False
        if not whole:
            found.cut(f"the list of {kind} keys")
    return understood


def as_in_file(message: LoadMessage, source: KeyTable) -> LoadMessage:
    """The message with the keys that the file of an adapter has: without the adapter's name, where that is without.

    PEFT leaves out what it does not know without a word: where as much is missing as the file has, nothing was loaded.
    """
    keys = set(source.keys)
    if not any(_BARE.search(key) for key in keys):
        return message

    def named(key: str) -> str:
        return key if key in keys else _NAMED.sub(r"\1", key)

    missing, unexpected = tuple(map(named, message.missing)), tuple(map(named, message.unexpected))
    if NAME in message.loaders and not unexpected and len(missing) >= len(keys) and keys.isdisjoint(missing):
        unexpected = source.keys
    return replace(
        message,
        missing=missing,
        unexpected=unexpected,
        mismatched={named(key): shapes for key, shapes in message.mismatched.items()},
    )
