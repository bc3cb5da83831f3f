"""What of a damaged file goes, so that the rest can be saved: the list first, then the step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PySide6.QtWidgets import QWidget

from sdviewer.gui.dialogs.step_dialog import StepDialog, run
from sdviewer.gui.panels.wording import sentence
from sdviewer.gui.session import Session
from sdviewer.repair.operations import Drop, Operation


def ask(parent: QWidget, session: Session, lost: Mapping[str, Any]) -> Operation | None:
    """The drop step for exactly what the worker says is lost (engine.lost), or None."""
    patterns = tuple(str(pattern) for pattern in lost["patterns"])
    hint = "What cannot be read from this file is left out of the copy; all else stays. Undo takes the step back."
    if lost["remaining"]:
        hint += f" Even then it cannot be saved: {sentence(str(lost['remaining']))}"
    dialog = StepDialog(
        parent,
        session,
        "Drop what is lost…",
        [],
        lambda texts: Drop(keys=patterns, why=str(lost["why"])),
        hint,
        str(lost["state_dict"]),
    )
    return run(dialog)
