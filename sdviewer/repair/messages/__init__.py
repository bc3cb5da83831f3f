"""Load messages: what a loader printed when a checkpoint did not fit, read as the sets that it names.

A dialect is one file here and one line in `DIALECTS`. The text is somebody's: nothing in it is believed but names and
sizes, and reading takes a time that grows with its length alone.
"""

from __future__ import annotations

from types import ModuleType

from sdviewer.repair.messages import (
    diffusers,
    distributed,
    fvcore,
    incompatible_keys,
    mmengine,
    peft,
    timm,
    torch_early,
    torch_strict,
    transformers_4,
    transformers_5,
)
from sdviewer.repair.messages.cleaning import cleaned
from sdviewer.repair.messages.load_message import Gathered, LoadMessage

DIALECTS: tuple[ModuleType, ...] = (
    torch_strict,
    torch_early,
    incompatible_keys,
    transformers_4,
    transformers_5,
    diffusers,
    mmengine,
    fvcore,
    timm,
    distributed,
    peft,
)
"""Each has a `NAME`, `WORDS` of which a text of it has one, and `read(text, found) -> whether the text is of it`.

A text can be of several.
"""


def read_message(text: str) -> LoadMessage | None:
    """What a text says of missing, unexpected and mismatched keys; None where it is no load message."""
    plain, cut = cleaned(text)
    flat = plain.replace("\n", "")  # a terminal wraps within words
    found = Gathered()
    for dialect in DIALECTS:
        if any(word in flat for word in dialect.WORDS) and dialect.read(plain, found):
            found.loaders[dialect.NAME] = None
    if not found.loaders:
        return None
    if not found.whole_head and (found.missing or found.unexpected or found.mismatched):
        found.incomplete = True
        found.note("The text does not begin where the loader's message begins; there may be more above it.")
    if cut:
        found.incomplete = True
        found.note("The text is longer than what is read of one; its end was left out.")
    return found.message()
