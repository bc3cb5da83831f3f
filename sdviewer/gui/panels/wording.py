"""The engine's messages as sentences for a person; text of a file is made printable."""

from __future__ import annotations

from typing import Any

from sdviewer.core import text


def failure_words(failure: Any) -> tuple[str, str]:
    """A failure of the engine as cause and remedy, printable; the cause as a sentence."""
    message = sentence(text.visible(str(failure.get("message") or "something went wrong"), 600))
    return message, text.visible(str(failure.get("remedy") or ""), 400)


def sentence(message: str) -> str:
    """A message of the engine with a capital and a full stop."""
    # A sentence begins with a capital, except with our own name or a file's.
    if not message.startswith("sdviewer") and message.split(" ", 1)[0].isalpha():
        message = message[:1].upper() + message[1:]
    return message if message.endswith((".", "!", "?")) else f"{message}."
