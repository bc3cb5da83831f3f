"""Find and replace in a workbench: what is typed is seen against the target, in the keys that fit nothing or in all."""

from __future__ import annotations

from typing import Any, Final

from sdviewer.gui.dialogs.preview import joined
from sdviewer.gui.jobs import Body, Buffers
from sdviewer.gui.panels.find_panel import EVERYWHERE, SELECTED, FindPanel, Search
from sdviewer.gui.panels.wording import failure_words
from sdviewer.gui.widgets import Chip
from sdviewer.gui.workbench import WorkbenchSession

UNEXPECTED: Final = "unexpected"
SCOPES: Final = ((EVERYWHERE, "Whole state dict"), (UNEXPECTED, "Unexpected keys"))
EFFECTS: Final = {
    "match": ("matches target", "ok"),
    "shape": ("another shape", "S"),
    "": ("no target key", "text2"),
}
"""What a new key is to the target: words, and the token of their colour."""


class WorkbenchFind(FindPanel):
    """Stands in the place of the table, whose bar and chips show what the step would give."""

    def __init__(self, session: WorkbenchSession) -> None:
        self._workbench = session
        self._selected: list[str] | None = None
        self._inside: list[str] | None = None
        self.matches = Chip("", "ok", "check").only_says()
        self.astray = Chip("").only_says()
        super().__init__(session.document)
        for at, chip in enumerate((self.matches, self.astray)):
            self.preview.head.insertWidget(1 + 2 * at, chip)
            chip.hide()
        self.preview.model.rowsInserted.connect(self._ask_effects)

    def begin_with(self, rows: list[int], search: Search) -> None:
        """Start a new step: in rows of the table where there are several, for the part that they have in common."""

        def answered(body: Body, buffers: Buffers) -> None:
            self._selected = body["keys"]
            self.scopes = SCOPES if self._selected is None else (*SCOPES, (SELECTED, "Selected rows"))
            self.begin(search if search.find else Search(find=str(body["common"])), SELECTED)

        if len(rows) > 1:
            self._workbench.ask("keys", {"rows": rows}, answered, self._failed, lane="rows")
        else:
            self.scopes = SCOPES
            self.begin(search, EVERYWHERE)

    # In which keys

    def ask(self) -> None:
        if self.scope.currentData() != UNEXPECTED or not self.search().find:
            self._inside = self._selected if self.scope.currentData() == SELECTED else None
            super().ask()
            return

        def answered(body: Body, buffers: Buffers) -> None:
            if self.scope.currentData() == UNEXPECTED:  # still
                self._inside = body["keys"]
                super(WorkbenchFind, self).ask()

        self._workbench.ask("keys", {"status": UNEXPECTED}, answered, self._failed, lane="keys")

    def _failed(self, failure: Body) -> None:
        self._show_nothing(" ".join(failure_words(failure)).strip())

    def _scope(self) -> dict[str, Any] | None:
        return None if self._inside is None else {"kind": "keys", "keys": self._inside}

    # What it would give

    def _show(self, preview: Body) -> None:
        super()._show(preview)
        if not self._pause.isActive():  # then somebody typed on
            self._try()

    def _show_nothing(self, error: str) -> None:
        super()._show_nothing(error)
        self._try()

    def _try(self) -> None:
        self.preview.model.said = {}
        for chip in (self.matches, self.astray):
            chip.hide()
        self._workbench.try_search(None if self._step is None else self._step.table, self._tried)

    def _tried(self, told: Body) -> None:
        gain, astray = int(told["gain"]), int(told["astray"])
        self.matches.setText(f"{gain:,} will match the target")
        self.matches.setVisible(gain > 0)
        self.astray.setText(f"{astray:,} without a target")
        self.astray.setVisible(astray > 0)
        self._ask_effects()

    def _ask_effects(self) -> None:
        """What the keys in sight are to the target then."""
        model = self.preview.model
        keys = [key for row in model.rows if (key := joined(row[1])) and not row[3] and key not in model.said]
        if not keys or self._step is None:
            return

        def answered(body: Body, buffers: Buffers) -> None:
            words = [EFFECTS[str(status)] for status in body["effects"]]
            model.said = {**model.said, **dict(zip(keys, words, strict=True))}
            self.preview.view.viewport().update()

        self._workbench.ask("effects", {"keys": keys}, answered, lane="effects")
