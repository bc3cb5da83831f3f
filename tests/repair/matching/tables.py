"""Small key tables as models of the field have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching.found import Found, Matching

Shapes = Mapping[str, tuple[int, ...] | None]


def table(shapes: Shapes, *, ordered: bool = True, ties: tuple[tuple[int, ...], ...] = ()) -> KeyTable:
    keys = list(shapes) if ordered else sorted(shapes)
    return KeyTable(tuple(keys), [shapes[key] for key in keys], ["float32"] * len(keys), ordered, ties)


def names_only(shapes: Shapes) -> KeyTable:
    return table(dict.fromkeys(shapes))


def told(source: KeyTable, target: KeyTable, matching: Matching) -> dict[str, str | tuple[str, ...]]:
    """Source key -> target key, or keys where it becomes several; what is ambiguous is left out."""
    found: dict[str, str | tuple[str, ...]] = {}
    for one in matching.found:
        if one.evidence != "ambiguous" and one.relation != "tie":
            names = tuple([target.keys[j] for j in one.targets])
            found |= {source.keys[i]: names[0] if len(names) == 1 else names for i in one.sources}
    return found


def of(matching: Matching, source: KeyTable, key: str) -> Found:
    """What was found for a source key."""
    return next(one for one in matching.found if source.keys.index(key) in one.sources)


def encoder(
    block: str, names: Sequence[str], n: int, *, fused: bool = False, width: int = 12
) -> dict[str, tuple[int, ...]]:
    """Blocks of a transformer; `names` are those of two norms, the attention's linears, and the two of the MLP."""
    norm1, norm2, qkv, out, one, two = names
    found: dict[str, tuple[int, ...]] = {}
    for i in range(n):
        at = f"{block}.{i}."
        found |= {f"{at}{norm1}.weight": (width,), f"{at}{norm1}.bias": (width,)}
        for name in [qkv] if fused else qkv.split():
            rows = 3 * width if fused else width
            found |= {f"{at}{name}.weight": (rows, width), f"{at}{name}.bias": (rows,)}
        found |= {f"{at}{out}.weight": (width, width), f"{at}{out}.bias": (width,)}
        found |= {f"{at}{norm2}.weight": (width,), f"{at}{norm2}.bias": (width,)}
        found |= {f"{at}{one}.weight": (4 * width, width), f"{at}{one}.bias": (4 * width,)}
        found |= {f"{at}{two}.weight": (width, 4 * width), f"{at}{two}.bias": (width,)}
    return found


TIMM = ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
HUB = (
    "layernorm_before",
    "layernorm_after",
    "attention.attention.query attention.attention.key attention.attention.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
