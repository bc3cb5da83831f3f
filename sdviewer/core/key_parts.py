"""Components of keys: which are numbers, and how many two keys have in common."""

from __future__ import annotations

import re
from typing import Final

NUMBER: Final = re.compile(r"(?<![^.])[0-9]+(?![^.])")
"""A component that is a number."""


def common_end(key: str, other: str) -> int:
    """How many components both end with."""
    parts = zip(reversed(key.split(".")), reversed(other.split(".")), strict=False)
    return next((n for n, (x, y) in enumerate(parts) if x != y), min(key.count("."), other.count(".")) + 1)
