"""What a request `rows` asks of a tree on the screen: the same of a document and of a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from sdviewer.errors import UsageError


class Rows(Protocol):
    """The state of a tree on the screen (`core.shown_rows`, `core.aligned_rows`)."""

    def set_filter(self, text: str) -> None: ...
    def set_sort(self, sort: str, descending: bool) -> None: ...
    def toggle(self, row: int) -> None: ...
    def set_expanded(self, rows: Iterable[int], value: bool, subtree: bool = False) -> None: ...
    def expand_all(self, value: bool) -> None: ...
    def reveal(self, *rows: int) -> None: ...


def change_rows(shown: Rows, params: Mapping[str, Any]) -> str:
    """Filter, sort, open and close as the parameters say; what is wrong with the filter, "" for nothing.

    `filter`, `sort` with `descending`, `toggle`, `expand` and `collapse` with `subtree`, `all`, `reveal`.
    """
    error = ""
    if "filter" in params:
        try:
            shown.set_filter(params["filter"])
        except UsageError as failed:
            error = failed.message
    if "sort" in params:
        shown.set_sort(params["sort"], params.get("descending", False))
    if "toggle" in params:
        shown.toggle(params["toggle"])
    if "expand" in params:
        shown.set_expanded(params["expand"], True, params.get("subtree", False))
    if "collapse" in params:
        shown.set_expanded(params["collapse"], False, params.get("subtree", False))
    if "all" in params:
        shown.expand_all(params["all"] == "expand")
    if "reveal" in params:
        shown.reveal(params["reveal"])
    return error
