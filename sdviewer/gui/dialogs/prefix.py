"""Strip, add and replace a prefix."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from sdviewer.gui.dialogs.step_dialog import Entry, StepDialog
from sdviewer.gui.session import Session
from sdviewer.repair.operations import Prefix, ReplacePrefix, Strip


def strip_prefix(parent: QWidget, session: Session, prefix: str) -> StepDialog:
    """Take a prefix off every key that has it."""
    return StepDialog(
        parent,
        session,
        "Strip prefix…",
        [Entry("&Prefix", prefix, "module.")],
        lambda texts: Strip(prefix=texts[0], when="any"),
        "Keys that do not begin with it stay as they are. End it with a dot to take off a whole module path.",
    )


def add_prefix(parent: QWidget, session: Session) -> StepDialog:
    """Put a prefix before every key."""
    return StepDialog(
        parent, session, "Add prefix…", [Entry("&Prefix", "", "model.")], lambda texts: Prefix(add=texts[0])
    )


def replace_prefix(parent: QWidget, session: Session, prefix: str) -> StepDialog:
    """Exchange one prefix for another."""
    return StepDialog(
        parent,
        session,
        "Replace prefix…",
        [Entry("&From", prefix, "encoder."), Entry("&To", prefix, "backbone.")],
        lambda texts: ReplacePrefix(old=texts[0], new=texts[1]),
    )
