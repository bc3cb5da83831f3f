"""What comes over stdin, where `-` stands for a text."""

from __future__ import annotations

import sys
from typing import Final

STDIN: Final = "-"


def read_stdin() -> bytes:
    """All of it; nothing where a program was started without one."""
    return b"" if sys.stdin is None else sys.stdin.buffer.read()
