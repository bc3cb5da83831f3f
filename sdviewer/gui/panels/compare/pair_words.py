"""What is said of a pair: the line of facts below its name, and a sentence where numbers do not tell it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sdviewer.core import text
from sdviewer.core.relation import relation

Facts = Mapping[str, Any]

ARROW: Final = "\u2192"
GLYPHS: Final[Mapping[str, tuple[str, str]]] = {
    "identical": ("eq", "text2"),
    "close": ("eq", "text2"),
    "changed": ("neq", "text2"),
    "dtype": ("neq", "text2"),
    "shape": ("shape", "S"),
    "only_a": ("onlyA", "A"),
    "only_b": ("onlyB", "B"),
}
"""Icon and colour of each status."""


def place_of(at: int, shape: Sequence[int]) -> list[int]:
    """The index of an element that is counted in row-major order."""
    index: list[int] = []
    for size in reversed(shape):
        at, place = divmod(at, max(size, 1))
        index.insert(0, place)
    return index


def fact_words(facts: Facts) -> list[tuple[str, bool]]:
    """Shapes, types and how far apart, each with whether it is in the fixed font."""
    a, b = facts.get("a"), facts.get("b")
    both = [side for side in (a, b) if side]
    shapes = list(dict.fromkeys(text.shape(tuple(side["shape"])) for side in both if side.get("shape") is not None))
    dtypes = list(dict.fromkeys(text.visible(str(side["dtype"]), 40) for side in both if side.get("dtype")))
    words = [(f" {ARROW} ".join(shapes), True), (f" {ARROW} ".join(dtypes), False)]
    words += [(said, False) for said in _number_words(facts, tuple((a or b or {}).get("shape") or ()))]
    if len(both) == 1:
        words.append((text.size(int(both[0].get("nbytes") or 0)), False))
    return [entry for entry in words if entry[0]]


def _number_words(facts: Facts, shape: tuple[int, ...]) -> list[str]:
    """The numbers of the survey that are known; what is none (NaN, -1, None) is left out."""
    numbers = facts.get("numbers") or {}

    def known(name: str) -> float | None:
        told = numbers.get(name)
        value = math.nan if told is None else float(told)  # JSON has infinity as a word
        return None if math.isnan(value) or (value == -1 and name != "cosine") else value

    words: list[str] = []
    relative, cosine, largest, at = (known(name) for name in ("rel_l2", "cosine", "max_abs", "max_at"))
    if facts["status"] in ("identical", "shape", "only_a", "only_b"):
        return words
    if relative is not None:
        share = "\u221e" if math.isinf(relative) else text.percent(relative)
        words.append(f"\u2016B{text.MINUS}A\u2016 / \u2016A\u2016 {share}")
    if cosine is not None:
        words.append(f"cos {text.cosine(cosine)}")
    if largest is not None:
        place = f" at {place_of(int(at), shape)}" if at is not None and shape and largest else ""
        words.append(f"max |\u0394| {text.value(float(largest))}{place}")
    if (share_changed := known("changed_share")) is not None and share_changed < 1:
        words.append(f"{text.percent(share_changed)} of values changed")
    if flips := known("sign_flips"):
        words.append(f"{text.plural(int(flips), 'sign flip')}")
    for side in ("a", "b"):
        if (nan := known(f"nan_{side}")) and nan != known(f"nan_{'b' if side == 'a' else 'a'}"):
            words.append(f"{text.count(int(nan))} NaN in {side.upper()}")
        if (inf := known(f"inf_{side}")) and inf != known(f"inf_{'b' if side == 'a' else 'a'}"):
            words.append(f"{text.count(int(inf))} Inf in {side.upper()}")
    return words


def sentence(facts: Facts) -> str:
    """What a picture does not tell: that nothing differs, how shapes may relate, what is only on one side."""
    status, numbers = facts["status"], facts.get("numbers") or {}
    a, b = facts.get("a") or {}, facts.get("b") or {}
    said = _SENTENCES.get(status, "")
    if status == "identical":
        said = f"{said} {text.plural(_elements(a), 'value')}, bit for bit the same."
    elif status == "shape":
        how = str(facts.get("relation") or "") or relation(a.get("shape") or (), b.get("shape") or ())
        said = f"{said} {how}." if how else said
    elif numbers.get("cast"):
        said = _CASTS.get(str(numbers["cast"]), "").format(a=a.get("dtype"), b=b.get("dtype"))
    if status not in ("identical", "shape") and numbers.get("nonfinite_differs"):
        said = f"{said} NaN or infinity stands on one side only: what is marked has no difference.".strip()
    return text.visible(said)


_SENTENCES: Final = {
    "identical": "A and B are identical:",
    "close": "A and B are close: all values are within the tolerance.",
    "shape": "Shapes differ.",
    "only_a": "Only A has this tensor.",
    "only_b": "Only B has this tensor.",
}
_CASTS: Final = {
    "equal": "Only the type differs: all values are equal, as {a} in A and as {b} in B.",
    "rounded_b": "Only the type differs: B has the values of A rounded to {b}.",
    "rounded_a": "Only the type differs: A has the values of B rounded to {a}.",
}


def _elements(facts: Facts) -> int:
    return math.prod(facts.get("shape") or ())
