"""LSTM, GRU and plain recurrent layers, as torch names their weights.

torch.nn.LSTM stacks its gates as input, forget, cell, output; torch.nn.GRU as reset, update, new.
"""

from __future__ import annotations

import re

from sdviewer.core.roles.role import Part, Place, TensorRole

_NAME = re.compile(r"^(weight|bias)_(ih|hh)(?:_l(\d+))?(_reverse)?$")
_GATES = {4: ("LSTM", ("input", "forget", "cell", "output")), 3: ("GRU", ("reset", "update", "new")), 1: ("RNN", ())}


def guess(place: Place) -> TensorRole | None:
    """The gates of a recurrent layer; its hidden size tells which it is."""
    match = _NAME.match(place.name)
    if match is None:
        return None
    ending = place.name.partition("_")[2][2:]
    hidden = place.beside(f"weight_hh{ending}")
    if hidden is None or len(hidden) != 2 or not hidden[1] or hidden[0] % hidden[1]:
        return None
    kind, gates = _GATES.get(hidden[0] // hidden[1], ("", ()))
    if not kind or place.shape[:1] != hidden[:1]:
        return None
    size = hidden[1]
    layer = f", layer {match[3]}" if match[3] is not None else ""
    back = ", backwards" if match[4] else ""
    what = ("weights" if match[1] == "weight" else "bias") + (" of the input" if match[2] == "ih" else " of the state")
    words = f"{kind}{layer}{back}: {what}"
    words += f", {len(gates)} gates × {size:,}" if gates else f", {size:,} units"
    parts = tuple(Part(0, gate, i * size, (i + 1) * size) for i, gate in enumerate(gates))
    other = "bias" if match[1] == "weight" else "weight"
    return TensorRole(words, parts=parts, related=place.related((other, f"{other}_{match[2]}{ending}")))
