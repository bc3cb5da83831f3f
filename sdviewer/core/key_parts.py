"""Components of keys: which are numbers, how many two keys have in common, and in which they differ."""

from __future__ import annotations

import re
from typing import Final

NUMBER: Final = re.compile(r"(?<![^.])[0-9]+(?![^.])")
"""A component that is a number."""

_OUTSIDE_BRACES: Final = re.compile(r"\.(?![^{]*\})")


def common_end(key: str, other: str) -> int:
    """How many components both end with."""
    parts = zip(reversed(key.split(".")), reversed(other.split(".")), strict=False)
    return next((n for n, (x, y) in enumerate(parts) if x != y), min(key.count("."), other.count(".")) + 1)


def exchanged(old: str, new: str) -> tuple[str, str]:
    """The components that differ in two keys, or in the pattern and the result of a rename, in the middle of them.

    One that is alone keeps the name before it: `patch_embed.projection.{p}` and `patch_embed.proj.{p}` give
    `patch_embed.projection` and `\N{HORIZONTAL ELLIPSIS}.proj`.
    """
    some, others = _OUTSIDE_BRACES.split(old), _OUTSIDE_BRACES.split(new)
    least = min(len(some), len(others)) - 1
    pairs = zip(reversed(some), reversed(others), strict=False)
    end = min(next((n for n, (x, y) in enumerate(pairs) if x != y), least), least)
    pairs = zip(some, others, strict=False)
    front = min(next((n for n, (x, y) in enumerate(pairs) if x != y), least), least - end)
    one, other = some[front : len(some) - end], others[front : len(others) - end]
    if len(one) == 1 and front and not any(ch in some[front - 1] for ch in "*{}"):
        return f"{some[front - 1]}.{one[0]}", f"\N{HORIZONTAL ELLIPSIS}.{'.'.join(other)}"
    return ".".join(one), ".".join(other)
