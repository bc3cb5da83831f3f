"""Asking how a copy is written: where, in which container, what that loses. Returns a SaveOrder.

What it says of the copy comes from a save that was laid out and not written (engine.save_preview).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.dialogs.asking_dialog import AskingDialog, field_grid
from sdviewer.gui.dialogs.containers import (
    ALIASING,
    PURPOSES,
    SHARDED,
    container_of,
    container_words,
    is_suffix,
    with_suffix_of,
)
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.panels.file_view import scrolled
from sdviewer.gui.panels.security_words import kept_words
from sdviewer.gui.panels.wording import failure_words, sentence
from sdviewer.gui.saving import Kind, SaveOrder
from sdviewer.gui.session import Session
from sdviewer.gui.widgets import Card, Choice, Elided, IconLabel, Segments
from sdviewer.repair.history import Step
from sdviewer.repair.operations.drop_objects import DropObjects
from sdviewer.repair.operations.leave_out import LeaveOut

TYPING_PAUSE: Final = 150
"""Milliseconds without a key before it is looked what a save there would do."""
RESERVE: Final = 1 << 20
"""Bytes that stay free besides the copy."""
SHARD_SIZES: Final = ("1GB", "2GB", "5GB", "10GB", "50GB")
USUAL_SHARD: Final = "5GB"
MOST_PARTS: Final = 5
"""Rows of a list that are in sight without scrolling."""


class _Words(NamedTuple):
    title: str
    name: str
    save: str


_KINDS: Final[Mapping[Kind, _Words]] = {
    "repaired": _Words("Save a repaired copy", "repaired", "Save"),
    "clean": _Words("Save a clean copy", "clean", "Save"),
    "slim": _Words("Save a slim copy", "slim", "Save"),
    "converted": _Words("Convert to another container", "converted", "Convert"),
}


class SaveDialog(AskingDialog):
    """One sheet; `order` is what was decided, None while something stands against it."""

    def __init__(self, parent: QWidget, session: Session, kind: Kind, before: SaveOrder | None = None) -> None:
        """`before` is an order that could not be carried out: the sheet begins with what it said."""
        words = _KINDS[kind]
        super().__init__(parent, words.title)
        self.setMinimumWidth(700)
        self.session = session
        self.kind: Kind = kind
        self.order: SaveOrder | None = None
        self.would: Body | None = None
        self._wanted = False
        self._placed = False
        self._parts: list[tuple[QCheckBox, Body]] = []
        self._slim: Body | None = None
        # What this copy gets beside the recipe; of a slim one, what is ticked comes to it.
        self._base = session.clean_order("") if kind == "clean" else SaveOrder("")
        self._container = before.container if before is not None else _first_container(kind, session)
        self._proposed = before is None
        self.where = QLineEdit()
        self.set_place(before.out if before is not None else _suggested(session, kind, self._container))
        self.container = Choice("Container")
        self.state_dict = Choice("State dict")
        self.shard_size = Choice("Largest shard")
        self.ties = Segments(
            (("alias-metadata", "Keep one copy and note the alias", ""), ("clone", "Write each", "")), "Tied tensors"
        )
        self.ties.choose((before.shared if before is not None else "") or "alias-metadata")
        self._shared = (before.shared if before is not None else "") or "alias-metadata"
        self.replace_it = QCheckBox()
        self.save = widgets.button(words.save, "save", primary=True)
        self._pause = QTimer(self, interval=TYPING_PAUSE, singleShot=True)
        self._pause.timeout.connect(self._ask)
        self._lay_out(f"{words.title} of {session.name}" if kind != "converted" else f"Convert {session.name}")
        self._fill_choices(before)
        self._connect()
        self.where.setFocus()
        stem = Path(self.where.text()).name
        start = len(self.where.text()) - len(stem)
        self.where.setSelection(start, len(stem) - len(Path(stem).suffix))
        self.resize(self.sizeHint())
        self._centre()
        if kind == "slim":
            self._ask_parts()
        else:
            self._ask()

    # Laying it out

    def _lay_out(self, title: str) -> None:
        column = self.make_column(Elided(title, "path", Qt.TextElideMode.ElideMiddle))
        self.where.setProperty("mono", True)
        self.where.setMinimumHeight(30)
        self.where.setAccessibleName("Where the copy goes")
        choose = widgets.button("C&hoose…", "open")
        choose.clicked.connect(self.choose_place)
        grid = field_grid(6)
        self._room = widgets.label("", "hint")
        self._purpose = widgets.label("", "hint")
        self._tied = widgets.label("", "hint")
        for said in (self._room, self._purpose, self._tied):
            said.setWordWrap(True)
        self._names: dict[QWidget, QLabel] = {}
        self._row(grid, 0, "&Where", self.where, choose)
        grid.addWidget(self._room, 1, 1, 1, 2)
        self._row(grid, 2, "&Container", self.container)
        grid.addWidget(self._purpose, 3, 1, 1, 2)
        self._row(grid, 4, "State &dict", self.state_dict)
        self._row(grid, 5, "Largest s&hard", self.shard_size)
        self._row(grid, 6, "&Tied tensors", self.ties)
        grid.addWidget(self._tied, 7, 1, 1, 2)
        column.addLayout(grid)
        self._parts_card = Card("What goes", "…")
        self._parts_card.setVisible(self.kind == "slim")
        column.addWidget(self._parts_card)
        self._written = Card("What is written", "")
        self._facts = widgets.label("", "second")
        self._facts.setWordWrap(True)
        self._written.column.addWidget(self._facts)
        self._calls = QVBoxLayout()
        self._written.column.addLayout(self._calls)
        column.addWidget(self._written)
        self._lost = Card("What is lost", "")
        self._lost_rows = QVBoxLayout()
        self._lost_rows.setSpacing(4)
        self._lost.column.addLayout(self._lost_rows)
        column.addWidget(self._lost)
        column.addWidget(self.replace_it)
        column.addStretch(1)
        self._wrong = widgets.label("", "error")
        self._wrong.setWordWrap(True)
        column.addLayout(self.make_foot(self.save, self._wrong))

    def _row(self, grid: QGridLayout, row: int, words: str, field: QWidget, beside: QWidget | None = None) -> None:
        name = widgets.label(words, "second")
        name.setBuddy(field)
        self._names[field] = name
        grid.addWidget(name, row, 0)
        alone = isinstance(field, Segments)
        side = Qt.AlignmentFlag.AlignLeft if alone else Qt.AlignmentFlag(0)
        grid.addWidget(field, row, 1, 1, 1 if beside is not None else 2, side)
        if beside is not None:
            grid.addWidget(beside, row, 2)

    def _show_row(self, field: QWidget, shown: bool) -> None:
        self._names[field].setVisible(shown)
        field.setVisible(shown)

    def _fill_choices(self, before: SaveOrder | None) -> None:
        dicts = [found for found in self.session.info.get("state_dicts") or () if found["tensors"]]
        for found in dicts:
            what = text.plural(int(found["tensors"]), "tensor")
            self.state_dict.addItem(
                f"{found['dotted'] or 'the whole file'}   ·   {found['role']}, {what}", found["dotted"]
            )
        if dicts:
            chosen = before.state_dict if before is not None else None
            models = [found for found in dicts if found["role"] == "model"] or dicts
            largest = max(models, key=lambda found: int(found["parameters"]))["dotted"]
            here = self.session.state_dict_of_selection()
            wanted = (
                chosen if chosen is not None else here if here in [m["dotted"] for m in models] and here else largest
            )
            self.state_dict.setCurrentIndex(self.state_dict.findData(wanted))
        for size in SHARD_SIZES:
            self.shard_size.addItem(f"{size[:-2]} GB", size)
        size = (before.shard_size if before is not None else "") or USUAL_SHARD
        if self.shard_size.findData(size) < 0:
            self.shard_size.addItem(size, size)
        self.shard_size.setCurrentIndex(self.shard_size.findData(size))
        for field in (self.state_dict, self.shard_size, self.ties):
            self._show_row(field, False)
        self.replace_it.hide()

    def _connect(self) -> None:
        self.where.textEdited.connect(self._typed)
        self.container.activated.connect(lambda _: self._container_chosen())
        self.state_dict.activated.connect(lambda _: self._ask())
        self.shard_size.activated.connect(lambda _: self._ask())
        self.ties.chosen.connect(self._ties_chosen)
        self.replace_it.toggled.connect(lambda _: self._judge())

    # What is asked for

    @property
    def place(self) -> str:
        """Where the copy goes: what was typed, or the path that was put in, whatever bytes its name has.

        A name alone is one in the folder of the file.
        """
        typed = self.where.text()
        if typed == self._shown or not typed:
            return self._path if typed else ""
        folder = Path(str(self.session.info.get("path") or self.session.path)).parent
        with contextlib.suppress(RuntimeError):  # ~somebody who is not known here
            return str(folder / Path(typed).expanduser())
        return typed

    def set_place(self, path: str) -> None:
        """Put a path into the field, which cannot hold every name as it is."""
        self._path = path
        self.where.setText(text.visible(path, 4096))
        self._shown = self.where.text()

    def choose_place(self) -> None:
        """Choose a file, or a folder's place, in the desktop's own dialog."""
        dialog = QFileDialog(self, self.windowTitle())
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        # This sheet asks about a file that is there, with what is known of it.
        dialog.setOption(QFileDialog.Option.DontConfirmOverwrite)
        now = Path(self.place)
        dialog.setDirectory(str(now.parent))
        dialog.selectFile(now.name)
        if dialog.exec() == QFileDialog.DialogCode.Accepted and dialog.selectedFiles():
            self.set_place(dialog.selectedFiles()[0])
            self._place_changed()
            self._ask()
        dialog.deleteLater()

    def _typed(self) -> None:
        self._place_changed()
        self.would = None
        self._wanted = False
        self._pause.start()

    def _place_changed(self) -> None:
        """The suffix of a name promises a container."""
        if self._container:
            found = container_of(self.place, self._container)
            at = self.container.findData(found)
            if at >= 0:
                self._container = found
                self.container.setCurrentIndex(at)
        self.replace_it.setChecked(False)

    def _container_chosen(self) -> None:
        self._container = str(self.container.currentData())
        self.set_place(with_suffix_of(self.place, self._container, str(self.session.info.get("suffix") or "")))
        self._ask()

    def _ties_chosen(self, shared: str) -> None:
        self._shared = shared
        self._ask()

    def _made(self) -> SaveOrder:
        """The order as the sheet stands."""
        ties = self.would is not None and int(self.would["ties"]["count"]) > 0
        aliasing = self._container in ALIASING
        several = self.state_dict.count() > 1 and not self.session.recipe.steps
        alone = self.kind == "slim" or (self.would is not None and bool(self.would["tensors_alone"]))
        return SaveOrder(
            self.place,
            container=self._container,
            # Said only where it was asked: a copy without ties needs no word about them.
            shared=self._shared if aliasing and (ties or self._shared == "clone") else "",
            shard_size=str(self.shard_size.currentData()) if self._container == SHARDED else "",
            state_dict=str(self.state_dict.currentData()) if several and alone else None,
            first=self._base.first,
            steps=(*self._base.steps, *self._leave_out()),
            overwrite=self.replace_it.isChecked() or self.session.saving.wrote(self.place),
            sure=self.replace_it.isChecked(),
            kind=self.kind,
        )

    def _leave_out(self) -> Iterable[Step]:
        paths = tuple(str(part["pattern"]) for box, part in self._parts if box.isChecked())
        return (Step.of(LeaveOut(paths=paths)),) if paths else ()

    # What a save would do

    def _ask(self) -> None:
        self._pause.stop()
        order = self._made()
        self.would = None
        self._written.subtitle.setText("…")
        draft = order.draft(self.session.recipe, str(self.session.info["container"]))
        params = {"recipe": draft.to_text(), "out": order.out, "container": self._container}

        def answered(body: Body, buffers: Buffers) -> None:
            if not self._pause.isActive():
                self._show(body, order)

        self.session.ask("would_save", params, answered, self._failed, lane="would save")

    def _failed(self, failure: Body) -> None:
        what, why = failure_words(failure)
        self._wrong.setText(f"{what} {why}".strip())

    def _show(self, would: Body, order: SaveOrder) -> None:
        first = not self.container.count()
        if first:
            for name in would["containers"]:
                own = " (as it is)" if name == would["own"] else ""
                self.container.addItem(f"{container_words(name)}{own}", name)
        self.would = would
        if first or not self._container:
            self._container = str(would["container"])
            self.container.setCurrentIndex(self.container.findData(self._container))
            own = str(self.session.info.get("suffix") or "")
            named = with_suffix_of(order.out, self._container, own)
            if (would["there"] or would["refused"]) and self.kind == "converted":
                named = _marked(named, self.kind)
            if self._proposed and named != order.out:
                self.set_place(named)
                self._ask()
                return
        again = self._made()
        if (again.state_dict, again.shared) != (order.state_dict, order.shared):
            self._ask()  # now that it is known what the container takes
            return
        self._purpose.setText(PURPOSES[self._container].words)
        several = self.state_dict.count() > 1 and not self.session.recipe.steps
        self._show_row(self.state_dict, bool(several and would["tensors_alone"] and self.kind != "slim"))
        self._show_row(self.shard_size, self._container == SHARDED)
        self._show_ties(would["ties"])
        self._show_written(would)
        self._show_calls(would)
        self._show_lost(would)
        self._show_there(would)
        self._judge()
        self._fit()
        if self._wanted:
            self.accept()

    def _show_ties(self, ties: Body) -> None:
        asked = self._container in ALIASING and int(ties["count"]) > 0
        self._show_row(self.ties, asked)
        self._tied.setVisible(asked)
        if asked:
            shown = [f"{key} = {kept}" for key, kept in ties["rows"][:3]]
            more = int(ties["count"]) - len(shown)
            also = f" and {more:,} more" if more > 0 else ""
            what = (
                "safetensors has no shared tensors: the alias is noted in its metadata, as safetensors itself does."
                if self._shared == "alias-metadata"
                else "Each key gets its own bytes: the file grows, and the tie is gone."
            )
            self._tied.setText(f"{', '.join(shown)}{also}. {what}")

    def _show_written(self, would: Body) -> None:
        if would["error"]:
            self._written.subtitle.setText("")
            what, why = failure_words(would["error"])
            self._facts.setText(f"It cannot be written like this: {what[:1].lower()}{what[1:]} {why}".strip())
            return
        self._written.subtitle.setText(
            f"{text.plural(int(would['written']), 'entry', 'entries')} · {text.size(int(would['size']))}"
        )
        copied, computed = int(would["copied"]), int(would["computed"])
        facts = [f"{text.size(copied)} copied as it is"] if copied or not computed else []
        if computed:
            facts.append(f"{text.size(computed)} computed")
        facts += [f"{int(would[name]):,} {name}" for name in ("renamed",) if would[name]]
        if would["made"]:
            facts.append(f"{int(would['made']):,} made of others")
        if would["dropped"]:
            facts.append(f"{int(would['dropped']):,} left out")
        notes = [sentence(str(note)) for note in (*would["notes"], *would["warnings"])]
        self._facts.setText("\n".join([" · ".join(facts), *notes]))

    def _show_calls(self, would: Body) -> None:
        """A copy that keeps the objects of a hostile file is as hostile as that."""
        widgets.clear_layout(self._calls)
        steps = (*self.session.recipe.steps, *self._base.steps)
        clean = any(step.op == DropObjects.op and step.enabled for step in steps)
        objects = not (would["error"] or would["tensors_alone"] or clean)
        if objects and self.session.scan and (kept := kept_words(self.session.scan)):
            self._calls.addWidget(_line("shieldw", "S", kept))

    def _show_lost(self, would: Body) -> None:
        widgets.clear_layout(self._lost_rows)
        losses = [str(message) for _, message in would["losses"]]
        self._lost.setVisible(not would["error"])
        self._lost.subtitle.setText(f"in {container_words(self._container)}" if losses else "")
        inside = QWidget()
        rows = QVBoxLayout(inside)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(5)
        if not losses:
            rows.addWidget(
                _line("checkc", "ok", f"Nothing: {container_words(self._container)} holds all that is written.")
            )
        for message in losses:
            rows.addWidget(_line("warn", "warn", sentence(message)))
        self._lost_rows.addWidget(inside if len(losses) <= MOST_PARTS else _limited(inside, MOST_PARTS * 26))

    def _show_there(self, would: Body) -> None:
        there = would["there"]
        asked = bool(there) and not would["refused"] and not self.session.saving.wrote(self.place)
        self.replace_it.setVisible(asked)
        if not asked:
            return
        what = f"{text.size(int(there['size']))}, changed {_ago(float(there['age']))}"
        others = int(there["other_names"])
        if others:
            keeps = "keeps" if others == 1 else "keep"
            words = f"&Replace only this name: {text.plural(others, 'other name')} of it {keeps} the old bytes"
        else:
            words = "&Replace the file that is there"
        self.replace_it.setText(f"{words} ({what})")

    def _judge(self) -> None:
        """Whether it can be saved like this, and why not."""
        would = self.would
        if would is None:
            return
        size, free = int(would["size"]), int(would["free"])
        short = 0 <= free < size + RESERVE and not would["error"]
        room = f"Needs {text.size(size)}; {text.size(free)} are free there." if free >= 0 else ""
        why = ""
        if would["refused"]:
            room = _refusal(would["refused"], self._container)
        elif short:
            room = f"Not enough room: needs {text.size(size)}, and {text.size(free)} are free there."
        bad = bool(would["refused"]) or short
        self._room.setText(room)
        widgets.set_property(self._room, "role", "error" if bad else "hint")
        widgets.set_property(self.where, "wrong", bad)
        if would["error"] or bad:
            why = " "
        elif self.replace_it.isVisibleTo(self) and not self.replace_it.isChecked():
            why = "There is a file of this name: choose another, or say that it may go."
        elif self.kind == "slim" and not any(box.isChecked() for box, _ in self._parts):
            why = "Tick what shall go."
        self._wrong.setText(why.strip())
        widgets.set_property(self._wrong, "role", "hint")
        self.order = None if why else self._made()
        self.save.setEnabled(self.order is not None)
        if why:
            self._wanted = False

    def _fit(self) -> None:
        """As high as what it says, no higher; once that is known, in the middle of the window."""
        width = self.width()
        high = self.heightForWidth(width) if self.hasHeightForWidth() else self.sizeHint().height()
        self.resize(width, high)
        if not self._placed:
            self._placed = True
            self._centre()

    def _centre(self) -> None:
        """Stand in the middle of the window. Said outright: else the desktop puts it where it likes, a corner too."""
        parent, frame = self.parentWidget(), self.frameGeometry()
        assert parent is not None
        frame.setSize(frame.size().expandedTo(self.size()))
        frame.moveCenter(parent.window().frameGeometry().center())
        self.move(frame.topLeft())

    # A slim copy

    def _ask_parts(self) -> None:
        recipe = self.session.recipe
        params = {"recipe": "" if recipe.is_empty else recipe.to_text()}
        self.session.ask("slim", params, lambda body, _: self._show_parts(body), self._failed, lane="slim")

    def _show_parts(self, slim: Body) -> None:
        self._slim = slim
        inside = QWidget()
        grid = QGridLayout(inside)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(4)
        grid.setHorizontalSpacing(12)
        grid.setColumnStretch(1, 1)
        for row, part in enumerate(slim["parts"]):
            box = QCheckBox(str(part["path"]).replace("&", "&&"))
            box.setChecked(bool(part["goes"]))
            box.setEnabled(not part["stays"])
            what = str(part["stays"] or part["what"] or _holds(part))
            box.setToolTip(_holds(part))
            box.toggled.connect(lambda _: self._parts_changed())
            self._parts.append((box, part))
            grid.addWidget(box, row, 0)
            grid.addWidget(Elided(what, "second"), row, 1)
            size = widgets.label(text.size(int(part["bytes"])), "note")
            grid.addWidget(size, row, 2, Qt.AlignmentFlag.AlignRight)
        many = len(slim["parts"]) > MOST_PARTS + 2
        self._parts_card.set_body(_limited(inside, 210) if many else inside)
        if slim["why"]:
            self._parts_card.subtitle.setText("")
            self._parts_card.set_body(_line("info", "text2", sentence(str(slim["why"]))))
        at = self.state_dict.findData(slim["state_dict"])
        self.state_dict.setCurrentIndex(max(at, 0))
        self._say_parts()
        self._ask()

    def _parts_changed(self) -> None:
        self._say_parts()
        self._ask()

    def _say_parts(self) -> None:
        goes = sum(int(part["bytes"]) for box, part in self._parts if box.isChecked())
        if self._slim is not None and not self._slim["why"]:
            kept = str(self._slim["state_dict"] or "the weights")
            stays = f"{kept} stays, {text.size(int(self._slim['kept']))}"
            self._parts_card.subtitle.setText(f"{text.size(goes)} of {text.size(int(self._slim['size']))}; {stays}")

    # Qt

    def accept(self) -> None:
        if self._pause.isActive():
            self._ask()
        if self.would is None:
            self._wanted = True  # Return was pressed before the answer came
            return
        if self.order is not None:
            self.order = replace(self.order, out=str(Path(self.order.out).absolute()))
            super().accept()

    def done(self, result: int) -> None:
        # An answer that is on its way finds nobody here any more.
        self._pause.stop()
        for lane in ("would save", "slim"):
            self.session.jobs.drop(lane)
        super().done(result)


def ask(parent: QWidget, session: Session, kind: Kind, before: SaveOrder | None = None) -> SaveOrder | None:
    """How a copy is to be written, or None."""
    dialog = SaveDialog(parent, session, kind, before)
    accepted = dialog.exec() == QDialog.DialogCode.Accepted
    order = dialog.order if accepted else None
    dialog.deleteLater()
    return order


def _first_container(kind: Kind, session: Session) -> str:
    """What is proposed; "" for what the worker says fits the file."""
    if kind != "converted":
        return ""
    own = str(session.info["container"])
    return "torch-zip" if own in ALIASING else "safetensors"


def _suggested(session: Session, kind: Kind, container: str) -> str:
    """Where a copy goes unless somebody says otherwise: beside the file, never over it."""
    # The only checkpoint of a folder is what was opened, and not the folder.
    path = Path(str(session.info.get("path") or session.path))
    suffix = path.suffix or ".pth"
    if int(session.info.get("files", 1)) > 1:
        # A checkpoint of several files is named after its folder: that of its index, or itself.
        path, suffix = path.parent if path.suffix == ".json" else path, ""
    stem = path.name.removesuffix(path.suffix) if suffix else path.name
    if is_suffix(inner := Path(stem).suffix):  # model.pth.tar
        stem, suffix = stem.removesuffix(inner), inner + suffix
    if container:
        return with_suffix_of(str(path.with_name(stem + suffix)), container)
    return str(path.with_name(f"{stem}_{_KINDS[kind].name}{suffix}"))


def _marked(path: str, kind: Kind) -> str:
    """A path with what the copy is in its name."""
    found = Path(path)
    return str(found.with_name(f"{found.name.removesuffix(found.suffix)}_{_KINDS[kind].name}{found.suffix}"))


def _refusal(failure: Body, container: str) -> str:
    if failure["code"] == "exists" and container == SHARDED:
        return "There is something of this name; sharded safetensors go into a new folder. Choose another name."
    what, why = failure_words(failure)
    return f"{what} {why}".strip()


def _holds(part: Body) -> str:
    """What is in a part, in numbers."""
    held = [text.plural(int(part["tensors"]), "tensor")] if part["tensors"] else []
    held += [text.plural(int(part["values"]), "value")] if part["values"] else []
    return ", ".join(held)


def _ago(seconds: float) -> str:
    """How long ago, roughly."""
    for size, noun in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return f"{text.plural(int(seconds // size), noun)} ago"
    return "a moment ago"


def _line(icon: str, token: str, words: str) -> QWidget:
    made = QWidget()
    row = QHBoxLayout(made)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(8)
    row.addWidget(IconLabel(icon, 15, token), 0, Qt.AlignmentFlag.AlignTop)
    said = widgets.label(words)
    said.setWordWrap(True)
    row.addWidget(said, 1)
    return made


def _limited(inside: QWidget, height: int) -> QWidget:
    made = scrolled(inside)
    inside.setAutoFillBackground(False)  # on a card, not on the window
    made.viewport().setAutoFillBackground(False)
    made.setFixedHeight(height)
    return made
