"""The engine's messages as sentences for a person; text of a file is made printable."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from sdviewer.core import text

if TYPE_CHECKING:
    from sdviewer.gui.session import Session


def failure_words(failure: Any) -> tuple[str, str]:
    """A failure of the engine as cause and remedy, printable; the cause as a sentence."""
    message = sentence(text.visible(str(failure.get("message") or "something went wrong"), 600))
    return message, text.visible(str(failure.get("remedy") or ""), 400)


def changed_words(session: Session, look: Any) -> tuple[str, str, bool]:
    """What became of a file on disk (engine.watch): what, what follows, and whether it can be read again."""
    many = int(session.info.get("files", 1)) > 1
    name = text.visible(PurePath(str(look["file"])).name, 80) if many else ""
    shown = f"What is shown was read at {session.opened_at.toString('HH:mm:ss')}"
    kept = " Your steps are kept." if session.recipe.steps else ""
    if look["state"] == "gone":
        what = f"{name} is gone." if many else "The file is gone."
        return what, f"It was moved or deleted. {shown}; its numbers cannot be read any more.{kept}", False
    if look["state"] == "replaced":
        what = f"Replaced on disk: another file is called {name} now." if many else "Replaced on disk."
        why = "" if many else "Another file has its name now. "
        return what, f"{why}{shown}; numbers are read again after a reload.{kept}", True
    if look["state"] == "silent":
        return "The drive does not answer.", f"{shown}.{kept}", False
    what = f"{name} was changed on disk." if many else "Changed on disk."
    return what, f"It was written to in place. {shown}; numbers are read again after a reload.{kept}", True


def sentence(message: str) -> str:
    """A message of the engine with a capital and a full stop."""
    # A sentence begins with a capital, except with our own name or a file's.
    if not message.startswith("sdviewer") and message.split(" ", 1)[0].isalpha():
        message = message[:1].upper() + message[1:]
    return message if message.endswith((".", "!", "?")) else f"{message}."
