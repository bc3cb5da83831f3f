"""Rename one key, or all keys of a module by its path."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from sdviewer.errors import UsageError
from sdviewer.gui.dialogs.step_dialog import Entry, StepDialog
from sdviewer.gui.session import Session
from sdviewer.repair.operations import Operation, Rename, ReplacePrefix
from sdviewer.repair.patterns import literal_rule


def rename_key(parent: QWidget, session: Session, key: str) -> StepDialog:
    """Give one key another name."""

    def make(texts: object) -> Operation:
        new = texts[0]  # type: ignore[index]
        if not new:
            raise UsageError("a key cannot be empty")
        return Rename(rules=(literal_rule(key, new),))

    return StepDialog(parent, session, "Rename key…", [Entry("&New key", key)], make)


def rename_module(parent: QWidget, session: Session, prefix: str) -> StepDialog:
    """Give a module another path: all keys below it follow. `prefix` ends with its dot."""

    def make(texts: object) -> Operation:
        new = texts[0]  # type: ignore[index]
        return ReplacePrefix(old=prefix, new=f"{new.rstrip('.')}." if new else "")

    return StepDialog(
        parent,
        session,
        "Rename module…",
        [Entry("&New path", prefix.rstrip("."))],
        make,
        "All keys below it follow. Empty: they move one level up.",
    )
