"""What went wrong with a save, in words of its own for each cause, and what can be done about it."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Final, Literal, NamedTuple

from sdviewer.gui.jobs import Body
from sdviewer.gui.panels.banner import Tone
from sdviewer.gui.panels.wording import failure_words, short, with_name

Act = Literal["elsewhere", "again", "surely", "reload", "drop_lost", "clean", "stop"]


class FailureWords(NamedTuple):
    """What the banner says. `buttons` are words and acts; the first is what helps most."""

    what: str
    why: str
    buttons: tuple[tuple[str, Act], ...] = ()
    tone: Tone = "error"


ICONS: Final[dict[Act, str]] = {"again": "refresh", "reload": "refresh", "drop_lost": "trash", "stop": "x"}
"""The icon of the act that helps most, where that is not to save."""

ELSEWHERE: Final = ("Save elsewhere…", "elsewhere")
AGAIN: Final = ("Try again", "again")

FAILURES: Final[dict[str, tuple[str, tuple[tuple[str, Act], ...]]]] = {
    "no_space": ("There is not enough room in {folder}.", (ELSEWHERE, ("I made room, try again", "again"))),
    "not_writable": ("{name} cannot be written in {folder}.", (ELSEWHERE,)),
    "bad_place": ("There can be no file {name} in {folder}.", (ELSEWHERE,)),
    "disk_failed": ("The disk of {folder} failed.", (ELSEWHERE, AGAIN)),
    "exists": ("There is a {name} in {folder} already.", (ELSEWHERE, ("Replace it", "surely"))),
    "other_names": ("The file {name} has other names.", (ELSEWHERE, ("Replace only this name", "surely"))),
    "target_changed": (
        "{name} is not the file that was saved there.",
        (ELSEWHERE, ("Replace it", "surely")),
    ),
    "file_changed": ("This file was changed on disk.", (("Reload", "reload"),)),
    "other_changed": ("{name} was changed on disk.", (("Reload", "reload"),)),
    "other_unreadable": ("{name} cannot be read.", (AGAIN,)),
    "source_damaged": ("A part of this file cannot be copied.", (("Drop what is lost…", "drop_lost"),)),
    "unreadable": ("This file cannot be read any more.", (AGAIN,)),
    "unfaithful": ("This file cannot be edited without changing more than was asked for.", (ELSEWHERE,)),
    "not_verified": ("What was written did not read back as it should.", (AGAIN, ELSEWHERE)),
    "unsupported_container": ("It cannot be written in this container.", (("Another container…", "elsewhere"),)),
    "extra_needed": ("A library is missing.", (("Another container…", "elsewhere"),)),
    "usage": ("It cannot be saved like this.", (ELSEWHERE,)),
    "state_dict": ("It is not clear which state dict is meant.", (("Choose…", "elsewhere"),)),
    "recipe_failed": ("The recipe cannot be carried out.", ()),
    "collision": ("Two keys would be one.", ()),
    "no_match": ("A step finds nothing.", ()),
    "expectation": ("A step does not do what it should.", ()),
    "worker_died": ("The process that wrote it ended.", (AGAIN,)),
    "internal": ("sdviewer failed.", (AGAIN,)),
    "save_failed": ("It could not be written.", (ELSEWHERE, AGAIN)),
}
"""What is said first, and what is offered, by the code; `{name}` and `{folder}` are those of the failure's path."""

RUNNING: Final = "save_running"
WITHOUT_RECEIPT: Final = "receipt_lost"

_SAID: Final = "not enough space on the disk: "
"""What a cause need not say again."""


def words(failure: Body) -> FailureWords:
    """A failure of a save as the banner tells it: cause, space needed and remedy are the engine's own words."""
    message = str(failure.get("message") or "").removeprefix(_SAID)
    what, why = failure_words(with_name({**failure, "message": message}))
    code, path = str(failure.get("code")), str(failure.get("path") or "")
    if code == RUNNING:
        return FailureWords("One copy at a time.", f"{what} {why}", (("Stop the other", "stop"),), "info")
    if code == WITHOUT_RECEIPT:
        return FailureWords("Saved, without a receipt.", f"{what} {why}", (("Save again", "again"),), "warn")
    said, buttons = FAILURES.get(code, FAILURES["save_failed"])
    first = said.format(name=short(PurePath(path).name), folder=_folder(path))
    after = f"{what} {why}".strip()
    if code == "exists" and message == "exists already":
        after = "It was left as it is."  # all else is said above, and the remedy is that of a command
    elif code == "exists":
        buttons = (ELSEWHERE,)  # a folder, which is never replaced
    return FailureWords(f"Not saved. {first}", after, buttons)


def _folder(path: str) -> str:
    """The folder of a path, as people write it."""
    folder, home = PurePath(path).parent, Path.home()
    return short(str("~" / folder.relative_to(home) if folder.is_relative_to(home) else folder))
