"""The engine's messages as sentences for a person; text of a file is made printable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, Literal

from sdviewer.core import text

if TYPE_CHECKING:
    from sdviewer.gui.session import Session


_OF_THE_FILE: Final = ("exists ", "is ", "cannot be ")
"""Beginnings of causes that tell something of the file at a place, and want its name before them."""

_ROOM: Final = 72
"""Characters of a name or a folder."""


def failure_words(failure: Any) -> tuple[str, str]:
    """A failure of the engine as cause and remedy, printable; the cause as a sentence."""
    message = sentence(text.visible(str(failure.get("message") or "something went wrong"), 600))
    return message, text.visible(str(failure.get("remedy") or ""), 400)


def with_name(failure: Mapping[str, Any]) -> Mapping[str, Any]:
    """A failure whose cause tells something of a file, with the name of that before it."""
    message, name = str(failure.get("message") or ""), short(PurePath(str(failure.get("path") or "")).name)
    if name.isalpha():
        name = f'"{name}"'  # or its first letter would be taken for that of a sentence
    return {**failure, "message": f"{name} {message}"} if name and message.startswith(_OF_THE_FILE) else failure


def short(name: str) -> str:
    """What a line has room for; the end of a long name says more than its middle."""
    shown = text.visible(name, 4096)
    return shown if len(shown) <= _ROOM else f"{shown[: _ROOM // 3]}…{shown[-2 * _ROOM // 3 :]}"


def changed_words(session: Session, look: Any) -> tuple[str, str, str]:
    """What became of a file on disk (engine.watch): what, what follows, and the button that reads it again or ""."""
    many = int(session.info.get("files", 1)) > 1
    name = text.visible(PurePath(str(look["file"])).name, 80) if many else ""
    shown = f"What is shown was read at {session.opened_at.toString('HH:mm:ss')}"
    steps = len(session.recipe.steps)
    kept = " Your steps are kept." if steps else ""
    reload = f"Reload and apply {text.plural(steps, 'step')}" if steps else "Reload"
    if look["state"] == "gone":
        what = f"{name} is gone." if many else "The file is gone."
        return what, f"It was moved or deleted. {shown}; its numbers cannot be read any more.{kept}", ""
    if look["state"] == "replaced":
        what = f"Replaced on disk: another file is called {name} now." if many else "Replaced on disk."
        why = "" if many else "Another file has its name now. "
        return what, f"{why}{shown}; numbers are read again after a reload.", reload
    if look["state"] == "silent":
        return "The drive does not answer.", f"{shown}.{kept}", ""
    what = f"{name} was changed on disk." if many else "Changed on disk."
    return what, f"It was written to in place. {shown}; numbers are read again after a reload.", reload


def worth_telling(problems: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """The problems of a file that are more than notes."""
    return [problem for problem in problems if problem[0] != "info"]


def problem_words(problems: Sequence[Sequence[str]], files: int) -> tuple[Literal["error", "warn"], str, str] | None:
    """What is damaged or odd in a file (engine.problems): how bad, what, and which; None where nothing is."""
    told = worth_telling(problems)
    if not told:
        return None
    severity, _, message, where = told[0]
    damaged = "This file is damaged." if files < 2 else "Parts of this checkpoint are missing or damaged."
    odd = "Something in this file is odd." if files < 2 else "Something in this checkpoint is odd."
    place = "" if not where or where in message else f" ({text.visible(where, 120)})"
    why = sentence(text.visible(message, 300) + place)
    if len(told) > 1:
        why += f" And {len(told) - 1:,} more."
    return ("error", damaged, why) if severity == "error" else ("warn", odd, why)


def sentence(message: str) -> str:
    """A message of the engine with a capital and a full stop."""
    # A sentence begins with a capital, except with our own name or a file's.
    if not message.startswith("sdviewer") and message.split(" ", 1)[0].isalpha():
        message = message[:1].upper() + message[1:]
    return message if message.endswith((".", "!", "?")) else f"{message}."
