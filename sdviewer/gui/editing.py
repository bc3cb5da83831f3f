"""The commands of the Edit menu: each asks what it needs and hands an Operation to the session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6.QtWidgets import QWidget

from sdviewer.gui import widgets
from sdviewer.gui.dialogs import prefix, rename
from sdviewer.gui.dialogs.step_dialog import StepDialog, run
from sdviewer.gui.session import Session
from sdviewer.repair.operations import Drop, Unwrap
from sdviewer.repair.patterns import literal_pattern

MOST_ROWS = 2000
TOO_MANY = {
    "message": f"More than {MOST_ROWS:,} rows are selected",
    "remedy": "Select their modules instead, or use a step that names a prefix.",
}


class Editing:
    """Works on the session in front; `current` gives it, or None."""

    def __init__(self, window: QWidget, current: Callable[[], Session | None]) -> None:
        self._window = window
        self._current = current

    def undo(self) -> None:
        """One step back in the history."""
        if session := self._current():
            session.undo()

    def redo(self) -> None:
        """One step forward."""
        if session := self._current():
            session.redo()

    def copy_key(self) -> None:
        """The keys of the selected rows, one a line."""
        self._with_facts(lambda facts: widgets.copy_text("\n".join(_key(fact) for fact in facts)))

    def copy_python(self) -> None:
        """A line of Python that takes the tensor out of the state dict."""
        self._with_facts(lambda facts: widgets.copy_text("\n".join(f"sd[{_key(fact)!r}]" for fact in facts)))

    def rename(self) -> None:
        """A key, or a module's path."""
        session = self._current()
        if session is None or not session.facts:
            return
        facts = session.facts
        if facts.get("key"):
            self._ask(session, rename.rename_key(self._window, session, str(facts["key"])))
        elif facts.get("prefix"):
            self._ask(session, rename.rename_module(self._window, session, str(facts["prefix"])))

    def drop(self) -> None:
        """Leave the selected rows out, modules with all that is below."""
        session = self._current()

        def dropped(facts: list[Any]) -> None:
            patterns = [pattern for fact in facts if (pattern := _pattern(fact))]
            if session is not None and patterns:
                session.apply(Drop(keys=tuple(dict.fromkeys(patterns))))

        self._with_facts(dropped, outermost=True)

    def strip_prefix(self) -> None:
        """Off the keys."""
        if session := self._current():
            self._ask(session, prefix.strip_prefix(self._window, session, _prefix(session)))

    def add_prefix(self) -> None:
        """Before the keys."""
        if session := self._current():
            self._ask(session, prefix.add_prefix(self._window, session))

    def replace_prefix(self) -> None:
        """One for another."""
        if session := self._current():
            self._ask(session, prefix.replace_prefix(self._window, session, _prefix(session)))

    def unwrap(self) -> None:
        """The state dict becomes the whole file."""
        session = self._current()
        if session is None:
            return
        dicts = session.info.get("state_dicts") or ()
        index = int(session.facts.get("state_dict", -1))
        path = str(dicts[index]["dotted"]) if 0 <= index < len(dicts) else ""
        session.apply(Unwrap(path=path or "auto"))

    def _ask(self, session: Session, dialog: StepDialog) -> None:
        operation = run(dialog)
        if operation is not None:
            session.apply(operation)

    def _with_facts(self, act: Callable[[list[Any]], None], *, outermost: bool = False) -> None:
        """Call `act` with the facts of every selected row, or of each that is not below another, once all are there."""
        session = self._current()
        if session is None or not session.selection:
            return
        nodes = session.outermost() if outermost else session.selection
        if len(nodes) > MOST_ROWS:
            session.trouble.emit(TOO_MANY)
            return
        if len(nodes) == 1 and session.facts.get("row") == nodes[0]:
            act([session.facts])
            return
        gathered: list[Any] = []

        def answered(body: Any, buffers: Any) -> None:
            gathered.append(body)
            if len(gathered) == len(nodes):
                act(gathered)

        for node in nodes:
            session.ask("facts", {"row": node}, answered)


def _key(facts: Any) -> str:
    return str(facts.get("key") or facts.get("dotted") or facts["name"])


def _pattern(facts: Any) -> str:
    """The recipe pattern that means a row and all below it, "" where there is none."""
    if facts.get("editable"):
        return ""
    if facts.get("key") is not None:
        return literal_pattern(str(facts["key"]))
    below = str(facts.get("prefix") or "")
    if not below:
        return ""
    literal = literal_pattern(below)
    return f"{literal}**" if literal == below else f"{literal}.*"


def _prefix(session: Session) -> str:
    """The prefix that the selected row suggests."""
    facts = session.facts
    if facts.get("prefix"):
        return str(facts["prefix"])
    head, dot, _ = str(facts.get("key") or "").partition(".")
    return head + dot if dot else ""
