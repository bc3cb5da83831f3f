"""Low-rank adapters beside the layers that they change: LoRA as PEFT, diffusers and kohya name it, DoRA, LoHa, LoKr."""

from __future__ import annotations

import re
from typing import NamedTuple

from sdviewer.core import text
from sdviewer.core.roles.role import Place, TensorRole

_NAME = re.compile(
    r"^(?P<target>.*?)[._](?:lora_(?P<peft>A|B|embedding_A|embedding_B)(?:\.(?P<adapter>[^.]+))??(?:\.weight)?"
    r"|lora_(?P<kohya>down|up)\.weight"
    r"|(?:lora|lora_linear_layer)\.(?P<diffusers>down|up)\.weight)$"
)
_SIDE = {"A": "A", "B": "B", "embedding_A": "A", "embedding_B": "B", "down": "A", "up": "B"}
_TWIN = {"A": "B", "B": "A", "embedding_A": "embedding_B", "embedding_B": "embedding_A", "down": "up", "up": "down"}
_LOHA = re.compile(r"^(?P<target>.*)\.(?:hada_w[12]_[ab]|lokr_w[12](?:_[ab])?|hada_t[12]|lokr_t2)$")


class _Pair(NamedTuple):
    kind: str
    names: tuple[str, str]
    """The factor with the rank first, `(rank, in)`, and the one with it second, `(out, rank)`."""


_PAIRS = (
    _Pair("LoRA", ("lora_down.weight", "lora_up.weight")),
    _Pair("LoRA", ("lora_A.weight", "lora_B.weight")),
    _Pair("LoRA", ("lora.down.weight", "lora.up.weight")),
    _Pair("LoHa", ("hada_w1_b", "hada_w1_a")),
    _Pair("LoKr", ("lokr_w2_b", "lokr_w2_a")),
    _Pair("LoKr", ("lokr_w1_b", "lokr_w1_a")),
)
_DOWN_UP = (("A", "down"), ("B", "up"))


class _Half(NamedTuple):
    target: str
    side: str
    twin: str


def guess(place: Place) -> TensorRole | None:
    """One half of a pair, or what stands beside a pair."""
    half = _half(place.key)
    if half is not None:
        return _of_half(place, half)
    if (magnitude := re.match(r"^(.*)\.lora_magnitude_vector(?:\..*)?$", place.key)) is not None:
        return TensorRole(f"DoRA lengths of {_target(magnitude[1])}", "adapter")
    if place.name == "alpha" and place.info.elements == 1:
        return _alpha(place)
    if place.name == "dora_scale":
        pair = place.related(*((words, name) for pair in _PAIRS for words, name in zip("AB", pair.names, strict=True)))
        return TensorRole(f"DoRA lengths of {_target(place.module)}", "adapter", related=pair) if pair else None
    if (middle := re.match(r"^(.*)\.lora_mid\.weight$", place.key)) is not None:
        pair = place.related_at(*((words, f"{middle[1]}.lora_{name}.weight") for words, name in _DOWN_UP))
        words = f"LoRA middle of {_target(middle[1])}, between A and B"
        return TensorRole(words, "adapter", related=pair) if len(pair) == 2 else None
    if (other := _LOHA.match(place.key)) is not None:
        kind = "LoHa" if ".hada_" in place.key else "LoKr"
        alpha = place.related(("alpha", "alpha"))
        return TensorRole(f"{kind} factor for {_target(other['target'])}", "adapter", related=alpha)
    return None


def _alpha(place: Place) -> TensorRole | None:
    """The number that a pair is scaled by, once divided by its rank: in all trainers that write one."""
    for kind, names in _PAIRS:
        a, b = (place.beside(name) for name in names)
        if a and b and len(b) > 1 and a[0] == b[1]:
            words = f"{kind} alpha of {_target(place.module)}, scale is alpha / {text.count(a[0])}"
            halves = place.related(*zip("AB" if kind == "LoRA" else names, names, strict=True))
            return TensorRole(words, "scale", related=halves, over=a[0])
    return None


def _half(key: str) -> _Half | None:
    match = _NAME.match(key)
    if match is None:
        return None
    group = next(name for name in ("peft", "kohya", "diffusers") if match[name])
    side = match[group]
    twin = key[: match.start(group)] + _TWIN[side] + key[match.end(group) :]
    return _Half(match["target"], _SIDE[side], twin)


def _of_half(place: Place, half: _Half) -> TensorRole | None:
    index = place.keys.index.get(half.twin)
    if index is None or len(place.shape) < 2:
        return None
    other = place.keys.tensors[index].shape
    # A is (rank, in), B is (out, rank); of an embedding A is (rank, tokens).
    rank, facing = (place.shape[0], other[1:2]) if half.side == "A" else (place.shape[1], other[:1])
    if facing != (rank,):
        return None
    words = f"LoRA {half.side} of {_target(half.target)}, rank {text.count(rank)}"
    base = [("the layer's weight", f"{half.target}{end}") for end in (".base_layer.weight", ".weight")]
    twin = "B" if half.side == "A" else "A"
    return TensorRole(
        words,
        "adapter",
        related=place.related_at((twin, half.twin), ("alpha", f"{half.target}.alpha"), *base),
    )


def _target(path: str) -> str:
    """What a layer is called: its last component that is no number."""
    parts = path.split(".")
    while len(parts) > 1 and parts[-1].isdigit():
        parts.pop()
    return text.visible(parts[-1], 60)
