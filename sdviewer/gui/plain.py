"""Text of a file as a tooltip: Qt takes what looks like HTML for HTML there, and loads what it names."""

from __future__ import annotations

import html


def plain_tip(text: str) -> str:
    """A tooltip that shows exactly this text, whatever it looks like."""
    if "<" not in text:
        return text
    return f"<qt>{html.escape(text).replace(chr(10), '<br>')}</qt>"
