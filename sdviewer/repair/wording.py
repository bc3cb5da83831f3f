"""How keys and patterns are named in labels, warnings and errors."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sdviewer.core import text

SHOWN = 5


def quoted(key: str) -> str:
    """A key or pattern between double quotes, printable whatever it holds."""
    return f'"{text.visible(key, 200)}"'


def file_named(path: str) -> str:
    """A file by the last part of its path, which is any text."""
    return quoted(os.path.basename(path) or path)  # noqa: PTH119


def listed(keys: Sequence[str]) -> str:
    """The first few keys and how many more: `"a", "b" and 7 more`."""
    shown = ", ".join(quoted(key) for key in keys[:SHOWN])
    return shown if len(keys) <= SHOWN else f"{shown} and {len(keys) - SHOWN:,} more"
