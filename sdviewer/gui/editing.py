"""The commands of the Edit and Repair menus: each asks what it needs and hands one step to the session."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QFileDialog, QWidget

from sdviewer.core import text
from sdviewer.engine.edits import EVERY
from sdviewer.gui import widgets
from sdviewer.gui.dialogs.forms import FORMS, Form, form_of
from sdviewer.gui.dialogs.recipe_text import edit_as_text
from sdviewer.gui.dialogs.script_dialog import ScriptDialog
from sdviewer.gui.dialogs.step_dialog import StepDialog, run
from sdviewer.gui.jobs import Body, Buffers, is_cancelled
from sdviewer.gui.panels.document_page import DocumentPage
from sdviewer.gui.panels.find_panel import EVERYWHERE, SELECTED, SUBTREE, Search
from sdviewer.gui.session import Session
from sdviewer.gui.small_files import choose_place, write_file
from sdviewer.repair.history import Step
from sdviewer.repair.patterns import literal_pattern

MOST_COPIED: Final = 100_000
"""Keys that are copied at once."""
MOST_NUMBERS: Final = 6
"""Numbers of a key up to which each becomes a placeholder of a template."""
SCRIPT_FILTER: Final = "Python (*.py);;All files (*)"
RECIPE_FILTER: Final = "Recipes (*.toml *.json);;All files (*)"


class Editing:
    """Works on the document in front; `current` gives its page, or None.

    `followed` gives the session of the document that a comparison or a workbench in front shows the recipe of: undo is
    about that, and what is done to the recipe as a whole.
    """

    def __init__(
        self, window: QWidget, current: Callable[[], DocumentPage | None], followed: Callable[[], Session | None]
    ) -> None:
        self._window = window
        self._page = current
        self._followed = followed
        self.find_elsewhere: Callable[[], None] = lambda: None
        """Find and replace where no document is in front."""
        self.forms = SimpleNamespace(**{form.op: partial(self.add_step, form) for form in FORMS})
        """For each operation a command that opens its form."""

    def _current(self) -> Session | None:
        page = self._page()
        session = page.session if page is not None else self._followed()
        return session if session is not None and session.state == "open" else None

    def undo(self) -> None:
        """One step back in the history."""
        if session := self._current() or self._followed():
            session.undo()

    def redo(self) -> None:
        """One step forward."""
        if session := self._current() or self._followed():
            session.redo()

    # Copying

    def copy_key(self) -> None:
        """The keys of the selected rows, one a line."""
        self._copy("\n".join)

    def copy_value(self) -> None:
        """The value of the selected row, or the number of a tensor that has one, with all its digits."""
        session = self._current()
        if session is None or not has_value(session):
            return
        facts = session.facts
        if facts.get("value_type"):
            row = session.selection[0]
            session.ask("row_value", {"row": row}, lambda body, _: widgets.copy_text(str(body["text"])), lane="copy")
            return
        axes = len(facts["shape"])
        params = {"x": axes - 1 if axes else None, "y": None, "index": [0] * axes}
        session.ask_numbers(
            "values",
            {"source": facts["source"], **params, "row0": 0, "rows": 1, "col0": 0, "cols": 1},
            lambda body, _: widgets.copy_text(str(body["texts"][0])),
            lambda failure: None if is_cancelled(failure) else session.trouble.emit(failure),
            lane="copy",
        )

    def copy_rows(self) -> None:
        """The selected rows as a table, cells with tabs between."""
        session = self._current()
        if session is not None and session.selection:
            params = {"rows": session.selection, "limit": MOST_COPIED}
            session.ask("row_texts", params, lambda body, _: widgets.copy_text(str(body["text"])), lane="copy")

    def copy_python(self) -> None:
        """Python that takes the tensors out of the state dict, one a line."""
        self._copy(lambda keys: "\n".join(f"state_dict[{key!r}]" for key in keys))

    def copy_snippet(self) -> None:
        """Lines that load the file and take the tensors out of it."""
        session = self._current()
        if session is not None:
            self._copy(partial(_snippet, session), lines=True)

    def _copy(self, make: Callable[[list[str]], str], *, lines: bool = False) -> None:
        session = self._current()
        if session is None or not session.selection:
            return
        # A module's own path is what is wanted of a module, and the keys below it where code needs tensors.
        if not lines and len(session.selection) == 1 and session.facts.get("row") == session.selection[0]:
            widgets.copy_text(make([_key(session.facts)]))
            return

        def answered(body: Body, buffers: Buffers) -> None:
            widgets.copy_text(make([str(key) for key in body["keys"]]))

        session.ask("keys", {"rows": session.selection, "limit": MOST_COPIED}, answered, lane="copy")

    # Steps from the tree

    def rename(self) -> None:
        """In place; of several rows the part that all have, in find and replace."""
        page = self._page()
        session = self._current()
        if page is None or session is None or not session.selection:
            return
        if len(session.selection) == 1:
            page.show_tree()
            page.tree.edit_key()
            return

        def answered(body: Body, buffers: Buffers) -> None:
            page.show_find(Search(find=str(body["text"])), SELECTED)

        session.ask("common", {"rows": session.selection}, answered, lane="step")

    def drop(self) -> None:
        """Leave the selected rows out, modules with all that is below."""
        self._act("drop")

    def keep(self) -> None:
        """Leave everything out but the selected rows."""
        self._act("keep")

    def _act(self, act: str) -> None:
        session = self._current()
        if session is None or not session.selection:
            return
        # Where all goes that stands beside a state dict, it is this one that stays.
        several = len(session.info.get("state_dicts") or ()) > 1
        stays = session.state_dict_of_selection() if act == "keep" and several else ""
        session.step_of(act, lambda step: session.apply(step, stays), rows=session.selection)

    def select_leaf(self) -> None:
        """Show and select all with the same last name."""
        self._select_alike("leaf")

    def select_shape(self) -> None:
        """Show and select all of the same shape."""
        self._select_alike("shape")

    def select_family(self) -> None:
        """Show and select what stands at the same place of every block."""
        self._select_alike("family")

    def _select_alike(self, by: str) -> None:
        page = self._page()
        session = self._current()
        if page is None or session is None or not session.selection:
            return
        row = session.selection[0]

        def answered(body: Body, buffers: Buffers) -> None:
            page.tree.select_matches(str(body["filter"]))

        session.ask("alike", {"row": row, "by": by}, answered, lane="step")

    # Steps from forms

    def find_replace(self) -> None:
        """Find and replace, on what is selected where that is more than one row or a module."""
        page = self._page()
        session = self._current()
        if page is None or session is None:
            self.find_elsewhere()
            return
        scope = SELECTED if len(session.selection) > 1 else EVERYWHERE
        if scope == EVERYWHERE and session.facts.get("prefix") and len(session.selection) == 1:
            scope = SUBTREE
        page.show_find(None, scope)

    def add_step(self, form: Form) -> None:
        """Ask for a step by its form; finding and replacing has a panel of its own."""
        session = self._current()
        if session is None:
            return
        if form.op == "replace":
            self.find_replace()
            return
        if self._page() is None:
            self._ask(session, form, {}, -1)  # what is selected in a tab behind is nothing to go by
            return
        if form.selected != "keys" or not session.selection or session.editable:
            self._ask(session, form, _suggested(form, session), -1)
            return

        def chosen(step: Step) -> None:
            keys = step.table["keys"]
            self._ask(session, form, {"keys": [] if keys == list(EVERY) else keys}, -1)

        # A step that drops what is selected names its keys, of several rows and modules too.
        session.step_of("drop", chosen, lambda failure: self._ask(session, form, {}, -1), rows=session.selection)

    def edit_step(self, at: int) -> None:
        """Change a step of the recipe, in the form that made it."""
        page = self._page()
        session = self._current()
        if session is None or not 0 <= at < len(session.recipe.steps):
            return
        step = session.recipe.steps[at]
        if page is not None and page.edit_in_find(at, step):
            return
        form = form_of(step.op)
        if form is None:
            edit_as_text(self._window, session)
        else:
            self._ask(session, form, step.table, at)

    def _ask(self, session: Session, form: Form, values: Any, at: int) -> None:
        was = session.recipe.steps[at] if at >= 0 else None
        step = run(StepDialog(self._window, session, form, values, at))
        if step is None:
            return
        if was is None:
            session.apply(step)
        else:
            session.change_step(at, was, step)

    # The recipe as a document

    def edit_recipe(self) -> None:
        """As text: steps, what the file must look like, what is expected."""
        if session := self._current():
            edit_as_text(self._window, session)

    def open_recipe(self) -> None:
        """Carry a recipe out that was saved before."""
        session = self._current()
        if session is None:
            return
        folder = str(Path(session.path).parent)
        path, _ = QFileDialog.getOpenFileName(self._window, "Open a recipe", folder, RECIPE_FILTER)
        if path:
            self.take_recipe(path)

    def take_recipe(self, path: str) -> None:
        """Put the recipe of a file in the place of the one there is; undo brings that back."""
        page = self._page()
        session = page.session if page is not None else self._followed()
        if session is None:
            return
        label = f"Open {text.visible(Path(path).name, 60)}"
        if session.state == "open":
            session.read_recipe(path, label)
        elif session.state == "opening":
            # Dropped together with the file that it is for.
            session.opened.connect(lambda: session.read_recipe(path, label), Qt.ConnectionType.SingleShotConnection)

    def save_recipe(self) -> None:
        """As TOML, which `sdviewer repair` carries out too."""
        session = self._current()
        if session is None:
            return
        path = choose_place(self._window, "Save the recipe", Path(session.path).with_suffix(".toml"), RECIPE_FILTER)
        if path:
            self.write_recipe(session, path)

    def write_recipe(self, session: Session, path: str) -> None:
        """Write the recipe as it is now."""
        draft = session.recipe

        def write(toml: str) -> None:
            if write_file(session, path, toml.encode()):
                session.mark_recipe_saved(draft)

        session.recipe_text(draft, write, path=path)

    def export_script(self) -> None:
        """The recipe as a Python program without sdviewer, or in the words of a loader; both are seen first."""
        session = self._current()
        if session is None or session.recipe.is_empty:
            return
        dialog = ScriptDialog(self._window, session)
        wanted = dialog.exec() == QDialog.DialogCode.Accepted
        dialog.deleteLater()
        if wanted:
            file = Path(session.path)
            proposed = file.with_name(f"{file.stem}_{dialog.form or 'repair'}.py")
            path = choose_place(self._window, "Export as a script", proposed, SCRIPT_FILTER)
            if path:
                write_file(session, path, dialog.text.encode())


def _key(facts: Any) -> str:
    return str(facts.get("key") or str(facts.get("prefix") or "").rstrip(".") or facts.get("dotted") or facts["name"])


def _suggested(form: Form, session: Session) -> dict[str, Any]:
    """What the selected row suggests for a form's field: its module's prefix, or the first one of its key."""
    if form.op == "unwrap":
        return {"path": session.state_dict_of_selection() or "auto"}
    facts = session.facts
    if form.selected in ("from", "key"):
        key = str(facts.get("key") or "") if facts.get("shape") is not None else ""
        return {form.selected: numbered(key) if form.group == "shapes" else key} if key else {}
    if not form.suggests:
        return {}
    prefix = str(facts.get("prefix") or "")
    if not prefix:
        head, dot, _ = str(facts.get("key") or "").partition(".")
        prefix = head + dot if dot else ""
    if form.suggests == "keys":
        return {"keys": [f"{prefix}**"] if prefix else []}
    return {form.suggests: prefix}


def numbered(key: str) -> str:
    """The template of all keys that differ from this one in their numbers: `blocks.{i}.attn.qkv.weight`."""
    names = iter("ijklmn")
    pieces = literal_pattern(key).split(".")
    if literal_pattern(key) != key or sum(map(_is_number, pieces)) > MOST_NUMBERS:
        return literal_pattern(key)
    return ".".join(f"{{{next(names)}}}" if _is_number(piece) else piece for piece in pieces)


def _is_number(piece: str) -> bool:
    return piece.isascii() and piece.isdigit()


def _snippet(session: Session, keys: list[str]) -> str:
    """Python that loads the file as it is now and takes tensors out."""
    path = str(session.info.get("path") or session.path)
    if session.info.get("container") == "safetensors":
        load = f"from safetensors.torch import load_file\n\nstate_dict = load_file({path!r})"
    else:
        place = "".join(f"[{part!r}]" for part in session.state_dict_of_selection().split(".") if part)
        arguments = "map_location='cpu', weights_only=True"
        load = f"import torch\n\nstate_dict = torch.load({path!r}, {arguments}){place}"
    one = len(keys) == 1
    names = "\n".join(f"    {key!r}," for key in keys)
    take = f"tensor = state_dict[{keys[0]!r}]" if one else f"tensors = [state_dict[key] for key in (\n{names}\n)]"
    return f"{load}\n{take}\n"


def has_value(session: Session) -> bool:
    """Whether one value is selected, or a tensor of a single number that can be read."""
    facts = session.facts
    if len(session.selection) != 1 or facts.get("row") != session.selection[0]:
        return False
    return bool(facts.get("value_type")) or bool(facts.get("source") and facts.get("params") == 1)
