"""unstack: give every place along a dimension a key of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry, chosen_places
from sdviewer.repair.script.parts.keys import Counting
from sdviewer.repair.script.parts.tensors import axis, impossible, made, needs_elements, own, put_entries


def unstack(checkpoint: Checkpoint, *, pattern: str, into: Any, dim: int = 0, where: Chosen | None = None) -> Done:
    """Give every place along `dim` of what `pattern` matches the key that `into` gives for its number."""
    places = chosen_places(checkpoint, where)
    regex = re.compile(pattern)
    name = into.bound(regex, places) if isinstance(into, Counting) else into
    outputs: list[Sequence[Entry]] = [(entry,) for entry in checkpoint.entries]
    matched = 0
    for key, place in places.items():
        entry, match = checkpoint.entries[place], regex.search(key)
        if match is None:
            continue
        whole = needs_elements(entry, "cannot unstack")
        at = axis("cannot unstack", entry, dim)
        if whole.shape[at] > 1_000_000:
            raise impossible("cannot unstack", entry, "each of so many places would be a key of its own")
        parts = []
        for number in range(whole.shape[at]):
            new = made(checkpoint, ("unstack", at, number), [whole], partial(own, whole.select(at, number)))
            parts.append(Entry(name(match, number), new, entry.made_of))
        outputs[place] = parts
        matched += 1
    return Done(matched, put_entries(checkpoint, outputs), () if matched else [pattern])
