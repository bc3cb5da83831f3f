"""unstack: give every place along a dimension a key of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Done, Entry, chosen_places
from sdviewer.repair.script.parts.failures import quoted
from sdviewer.repair.script.parts.patterns import Pattern, Rule
from sdviewer.repair.script.parts.tensors import axis, made, needs_elements, own, put_entries


def unstack(checkpoint: Checkpoint, *, from_: str, into: str, dim: int = 0, keys: Sequence[str] = ()) -> Done:
    """Give every place along `dim` a key; the placeholder of `into` that `from_` lacks takes the numbers of places."""
    places = chosen_places(checkpoint.keys, keys)
    seen = [checkpoint.keys[place] for place in places]
    known = Pattern(from_).names

    def name_of(number: int) -> Callable[[str], str | None]:
        said = re.sub(r"\{([A-Za-z_]\w*)\}", lambda found: found[0] if found[1] in known else str(number), into)
        return Rule(from_, said).renamer(seen)

    names = [name_of(0)]
    outputs: list[Sequence[Entry]] = [(entry,) for entry in checkpoint.entries]
    matched = 0
    for place in places:
        entry = checkpoint.entries[place]
        if names[0](entry.key) is None:
            continue
        whole = needs_elements(entry, "cannot unstack")
        at = axis("cannot unstack", entry, dim)
        names += [name_of(number) for number in range(len(names), whole.shape[at])]
        parts = []
        for number in range(whole.shape[at]):
            new = made(checkpoint, ("unstack", at, number), [whole], partial(own, whole.select(at, number)))
            parts.append(Entry(names[number](entry.key) or "", new, entry.made_of))
        outputs[place] = parts
        matched += 1
    return Done(matched, put_entries(checkpoint, outputs), () if matched else (quoted(from_),))
