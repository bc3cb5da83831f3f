"""What one asks of a tree whose rows a worker keeps: the same of a document and of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import QObject, Signal

from sdviewer.gui.jobs import Body, Buffers, Job


class ShownTree(QObject):
    """Asks for other rows; `_rows_answered` shows them."""

    reveal_requested = Signal(int)
    rows_changed = Signal(object, object)  # visible rows, flags
    filtered = Signal(int, str)  # rows that a filter shows or -1 for all, what is wrong with it

    def toggle(self, node: int) -> None:
        """Expand or collapse."""
        self._ask_rows(toggle=node)

    def expand(self, node: int, *, subtree: bool = False) -> None:
        """Show what is below a node."""
        self._ask_rows(expand=[node], subtree=subtree)

    def collapse(self, node: int, *, subtree: bool = False) -> None:
        """Hide what is below a node."""
        self._ask_rows(collapse=[node], subtree=subtree)

    def expand_all(self) -> None:
        """Show every row."""
        self._ask_rows(all="expand")

    def collapse_all(self) -> None:
        """Show the top rows only."""
        self._ask_rows(all="collapse")

    def sort(self, by: str, descending: bool) -> None:
        """Sort siblings by "natural" (file order) or a column."""
        self._ask_rows(sort=by, descending=descending)

    def reveal(self, node: int) -> None:
        """Show a node wherever it is folded away, and select it."""

        def shown(body: Body, buffers: Buffers) -> None:
            self._rows_answered(body, buffers)
            self.reveal_requested.emit(node)

        self.ask("rows", {"reveal": node}, shown)

    def _ask_rows(self, lane: str = "", **params: Any) -> None:
        self.ask("rows", params, self._rows_answered, lane=lane)

    def _rows_answered(self, body: Body, buffers: Buffers) -> None:
        """Other rows are shown, unless the filter cannot be read: those that are shown stay then."""
        error = str(body.get("filter_error") or "")
        if not error:
            self.rows_changed.emit(buffers["visible"], buffers["flags"])
        matched = body.get("matched")
        self.filtered.emit(-1 if matched is None else int(matched), error)

    def ask(self, name: str, params: Mapping[str, Any], done: Any, failed: Any = None, *, lane: str = "") -> Job:
        """Ask the worker about rows of the sheet that is shown."""
        raise NotImplementedError
