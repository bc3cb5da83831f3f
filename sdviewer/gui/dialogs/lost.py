"""What of a damaged file goes, so that the rest can be saved: the list first, then the step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from PySide6.QtWidgets import QWidget

from sdviewer.gui.dialogs.forms import drop
from sdviewer.gui.dialogs.step_dialog import StepDialog, run
from sdviewer.gui.panels.wording import sentence
from sdviewer.gui.session import Session
from sdviewer.repair.history import Step


def ask(parent: QWidget, session: Session, lost: Mapping[str, Any]) -> Step | None:
    """The drop step for exactly what the worker says is lost (engine.lost), or None."""
    hint = "What cannot be read from this file is left out of the copy; all else stays. Undo takes the step back."
    if lost["remaining"]:
        hint += f" Even then it cannot be saved: {sentence(str(lost['remaining']))}"
    form = replace(drop.FORM, title="Drop what is lost…", hint=hint)
    values = {"keys": [str(pattern) for pattern in lost["patterns"]], "why": str(lost["why"])}
    return run(StepDialog(parent, session, form, values, state_dict=str(lost["state_dict"])))
