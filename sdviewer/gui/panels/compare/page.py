"""One tab of a comparison: both trees at the left, where they differ and one pair at the right."""

from __future__ import annotations

from functools import cached_property
from typing import Final

from PySide6.QtCore import QPoint, Qt, Signal
from PySide6.QtWidgets import QSplitter, QStackedWidget, QVBoxLayout, QWidget

from sdviewer.core import text
from sdviewer.gui import widgets
from sdviewer.gui.comparison import ComparisonSession
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.models.compare_model import CompareModel
from sdviewer.gui.panels.banner import Banner
from sdviewer.gui.panels.compare.cards import FileCards
from sdviewer.gui.panels.compare.chips import StatusChips
from sdviewer.gui.panels.compare.pair_page import PairPage
from sdviewer.gui.panels.compare.pairs_panel import PairsPanel
from sdviewer.gui.panels.compare.row_summary import RowSummary
from sdviewer.gui.panels.compare.tree import AlignedView
from sdviewer.gui.panels.compare.where_card import WhereCard
from sdviewer.gui.panels.file_banners import FileBanners
from sdviewer.gui.panels.opened_page import OpenedPage
from sdviewer.gui.panels.status_bar import CONTAINERS
from sdviewer.gui.panels.wording import failure_words, sentence
from sdviewer.gui.turns import Turns

TREE_SHARE: Final = 0.585
"""Of the width of the page that both trees take at first."""


class ComparePage(OpenedPage):
    """All that is shown of one comparison."""

    built = Signal()
    file_chosen = Signal(str)
    other_requested = Signal(str)
    menu_requested = Signal(QPoint)
    cursor_moved = Signal(str)
    first_painted = Signal()

    def __init__(self, session: ComparisonSession) -> None:
        super().__init__(session)
        self.session = session
        self.files = FileBanners()
        self.files.file_chosen.connect(self.file_chosen)
        self.banner = Banner()
        self.splitter = QSplitter(Qt.Orientation.Horizontal)
        self.splitter.setChildrenCollapsible(False)
        self.splitter.setHandleWidth(1)
        self._stack.addWidget(self.splitter)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.files)
        column.addWidget(self.banner)
        column.addWidget(self._stack, 1)
        self._told_one = False
        self._turns = Turns(self)
        self._turns.ended.connect(self._finish)
        self._connect()

    # Made one a turn of the event loop: all at once would stall the window

    def build(self) -> None:
        """Make what a comparison needs, piece by piece; `built` when it is there."""
        self._turns.add(
            *(lambda: self._cards, lambda: self._chips, lambda: self._view, lambda: self.pairs),
            *(self._show_pairs, lambda: self.where, lambda: self.pair),
        )

    def _finish(self) -> None:
        self._make_room()
        self.built.emit()

    @cached_property
    def _cards(self) -> FileCards:
        return FileCards(self.session)

    @cached_property
    def _chips(self) -> StatusChips:
        return StatusChips()

    @cached_property
    def _view(self) -> AlignedView:
        return AlignedView(CompareModel(self))

    def _show_pairs(self) -> None:
        widgets.polish(self.pairs)
        self.splitter.insertWidget(0, self.pairs)

    @cached_property
    def pairs(self) -> PairsPanel:
        """Both trees."""
        made = PairsPanel(self.session, self._cards, self._chips, self._view)
        made.cards.file_chosen.connect(self.file_chosen)
        made.cards.other_requested.connect(self.other_requested)
        made.menu_requested.connect(self.menu_requested)
        made.view.first_painted.connect(self.first_painted)
        made.view.copy_requested.connect(lambda: self.copy_key("a"))
        made.view.blinked.connect(lambda on: self.pair.blink(on))
        return made

    @cached_property
    def _right(self) -> QWidget:
        made = QWidget()
        made.setObjectName("page")
        column = QVBoxLayout(made)
        column.setContentsMargins(14, 12, 14, 12)
        column.setSpacing(10)
        made.setMinimumWidth(380)
        self.splitter.addWidget(made)
        self.splitter.setStretchFactor(0, 3)
        self.splitter.setStretchFactor(1, 2)
        return made

    @cached_property
    def where(self) -> WhereCard:
        """Where they differ."""
        made = WhereCard()
        widgets.polish(made)
        layout = self._right.layout()
        assert layout is not None
        layout.addWidget(made)
        made.pair_chosen.connect(self.session.reveal)
        return made

    @cached_property
    def pair(self) -> PairPage:
        """The pair that is selected."""
        made = PairPage(self.session, self.session.names)
        widgets.polish(made)
        self._details.addWidget(made)
        made.cursor_moved.connect(self.cursor_moved)
        made.node_chosen.connect(self.session.reveal)
        return made

    @cached_property
    def _details(self) -> QStackedWidget:
        made = QStackedWidget()
        layout = self._right.layout()
        assert isinstance(layout, QVBoxLayout)
        layout.addWidget(made, 1)
        return made

    @cached_property
    def summary(self) -> RowSummary:
        """What is selected and no pair."""
        made = RowSummary()
        widgets.polish(made)
        self._details.addWidget(made)
        made.node_chosen.connect(self.session.reveal)
        return made

    def _make_room(self) -> None:
        width = self.width() or self.window().width()
        left = round(width * TREE_SHARE)
        self.splitter.setSizes([left, width - left])

    def _connect(self) -> None:
        session = self.session
        session.opened.connect(self._show)
        session.open_failed.connect(self._show_failure)
        session.facts_changed.connect(self._show_facts)
        session.selection_changed.connect(lambda node: self.where.show_chosen(node))
        session.where_changed.connect(self._show_where)
        session.numbers_changed.connect(self._tell_one)
        session.survey_changed.connect(self._tell_one)
        session.trouble.connect(self.tell_trouble)
        session.changed_on_disk.connect(self._tell_change)
        session.scanned.connect(self._tell_file)
        session.no_more_differences.connect(self._tell_no_more)

    def _show(self) -> None:
        self._opening.end()
        self._stack.setCurrentWidget(self.splitter)
        self.pairs.view.setFocus()
        self.banner.hide()
        self._told_one = False
        self.files.forget()
        for side in "ab":
            self._tell_file(side, {})
        self._tell_pairing()
        self.pair.set_names(self.session.names)

    def reload(self) -> None:
        """Read both files again."""
        self.banner.hide()
        self.session.open()

    def copy_key(self, side: str) -> None:
        """The key of the selected row on a side, of the other where it has none there."""
        facts = self.session.facts
        other = "b" if side == "a" else "a"
        if key := facts.get(f"key_{side}") or facts.get(f"key_{other}"):
            widgets.copy_text(str(key))

    def next_pane(self) -> None:
        """From the trees to the pair and back."""
        if self.pairs.view.hasFocus():
            self.pair.setFocus()
            self.pair.focusNextChild()
        else:
            self.pairs.view.setFocus()

    def _show_failure(self) -> None:
        self.files.forget()
        session, failure = self.session, self.session.failure
        path = str(failure.get("path") or "")
        letters = [letter for letter, own in (("A", session.a), ("B", session.b)) if path == own]
        name = text.visible(path.rpartition("/")[2], 120) if path else session.name
        named = f"{letters[0]}, {name}" if len(letters) == 1 else name
        self.tell_failure(named, path or session.tip, failure)

    def _show_facts(self, facts: Body) -> None:
        if facts["pair"] is not None:
            self._details.setCurrentWidget(self.pair)
            self.pair.show_pair(facts["pair"])
        else:
            self.pair.forget()
            model, node = self.pairs.model, int(facts["row"])
            self.summary.show_row(facts, model.change(node), model.bound(node))
            self._details.setCurrentWidget(self.summary)

    def _show_where(self, body: Body, buffers: Buffers) -> None:
        self.where.show_where(body, buffers)
        self.where.show_chosen(self.session.selected)

    # The banners

    def _tell_pairing(self) -> None:
        """What was found out about the files as such."""
        info = self.session.info
        if info["one"]:
            steps = int(info["a"]["steps"])
            why = "A is shown as its recipe makes it." if steps else "There is nothing to be compared."
            self.banner.tell("info", str(info["one"]), why)
        elif info["match"] == "prefix" and info["exchanges"] and not self.session.matching.match:
            a, b = (text.visible(str(prefix), 60) for prefix in info["exchanges"][0])
            self.banner.tell("info", _exchange_words(a, b), "Pairs are made after that.")

    def _tell_one(self) -> None:
        """That both hold the same, once all is compared."""
        session = self.session
        counts = session.told.get("counts") or {}
        pairs = int(session.told.get("pairs", 0))
        same = session.is_over and 0 < pairs == int(counts.get("identical", 0))
        if self._told_one and not same:  # other pairs were made
            self._told_one = False
            self.banner.hide()
        if same and not self._told_one and not session.info.get("one"):
            self._told_one = True
            values = int(session.told["values"])
            differ = (
                f" {text.plural(values, 'value')} beside them differ{'s' if values == 1 else ''}." if values else ""
            )
            a, b = (str(session.info[side]["container"]) for side in "ab")
            containers = f" in two containers, {CONTAINERS.get(a, a)} and {CONTAINERS.get(b, b)}" if a != b else ""
            self.banner.tell(
                "info",
                f"A and B hold the same tensors{containers}.",
                f"{'The one pair is' if pairs == 1 else f'All {pairs:,} pairs are'} identical.{differ}",
            )

    def _tell_file(self, side: str, scan: Body) -> None:
        """What the file's own tab says of it as such; the scan comes later."""
        card = self.session.info[side]
        path = self.session.a if side == "a" else self.session.b
        self.files.tell(side, path, card["problems"], int(card["files"]), scan)

    def tell_trouble(self, failure: Body) -> None:
        """What did not go through."""
        what, why = failure_words(failure)
        self.banner.tell("error", what, why, str(failure.get("details") or ""))

    def _tell_change(self, look: Body) -> None:
        side = str(look["side"]).upper()
        words = {
            "written": "was written to",
            "replaced": "was replaced",
            "gone": "is gone",
            "silent": "does not answer",
        }
        if (state := str(look["state"])) in words:
            why = sentence("what is shown is what was read before")
            again = () if state in ("gone", "silent") else (("Reload", self.reload),)
            self.banner.tell("warn", f"File {side} {words[state]}.", why, buttons=again)
        else:
            self.banner.hide()

    def _tell_no_more(self, forwards: bool) -> None:
        self.cursor_moved.emit(f"No difference {'below' if forwards else 'above'}")


def _exchange_words(a: str, b: str) -> str:
    if not a:
        return f"Keys of B begin with “{b}”, which those of A lack."
    if not b:
        return f"Keys of A begin with “{a}”, which those of B lack."
    return f"Keys that begin with “{a}” in A begin with “{b}” in B."
