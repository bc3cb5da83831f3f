"""What a document's worker answers of all that is in its file, beside the module tree.

Requests (name: parameters -> body of the result); lists come in pages, `start` and `limit` count rows.

    structure    {"item", "start", "limit"} -> {"rows": [ROW], "total"}     item 0 is the file (engine.structure)
    records      {"start", "limit"} -> {"rows", "total", "bytes", "file"}   (engine.records)
    record_text  {"record"} -> {"name", "text", "note"}
    storages     {"start", "limit"} -> {"rows", "total", "nbytes", "unused", "shared"}
    metadata     {"limit"} -> {"groups": [{"title", "where", "rows": [[name, value]], "more": n}]}; one that can be
                 edited has "texts": [[name, text | null]] of its rows as they are, null where one cannot be edited
    problems     {"start", "limit", "also"?: ROWS} -> {"rows": ROWS, "total", "errors", "warnings"}, the worst first;
                 ROWS: [[severity, code, message, where]]; `also` are those that were found since it was opened;
                 what is odd about the numbers that are measured is among them (engine.tree_numbers)
    checkable    {} -> {"records", "bytes", "unstated"}     records that state a checksum, and those that state none
    clean        {"limit"} -> {"possible": bool, "why", "rows": [[place, what, tensors, "" or "None"]], "total",
                 "tensors", "extract"}     what a clean copy leaves out; `extract`: of a module its state dict stays
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, Problem
from sdviewer.core.paths import dotted
from sdviewer.core.progress import Progress
from sdviewer.engine.frames import Answer
from sdviewer.engine.records import Records, storages_page
from sdviewer.engine.structure import Structure
from sdviewer.errors import SDViewerError

Params = Mapping[str, Any]

LONGEST_EDITED = 1 << 16
"""Characters of a text that the window gets to edit."""

CONTENTS = ("structure", "records", "record_text", "storages", "metadata", "problems", "checkable", "clean")
"""The requests."""


class Contents:
    """The file of one document; what is asked for first is made then."""

    def __init__(self, checkpoint: Checkpoint, findings: Callable[[], Iterable[Problem]] = tuple) -> None:
        """`findings`: what is odd about the numbers, as far as they are measured."""
        self._checkpoint = checkpoint
        self._findings = findings
        self.requests: Mapping[str, Callable[[Params, Progress], Answer]] = {
            "structure": lambda p, _: Answer(self._structure.children(p["item"], p["start"], p["limit"])),
            "records": lambda p, _: Answer(self._records.page(p["start"], p["limit"])),
            "record_text": lambda p, _: Answer(self._records.text_of(p["record"])),
            "storages": lambda p, _: Answer(storages_page(checkpoint, p["start"], p["limit"])),
            "metadata": lambda p, _: Answer({"groups": list(self._metadata(p["limit"]))}),
            "problems": lambda p, _: Answer(self._problems(p["start"], p["limit"], p.get("also", ()))),
            "checkable": lambda p, _: Answer(self._checkable()),
            "clean": lambda p, _: Answer(self._clean(p["limit"])),
        }

    @cached_property
    def _structure(self) -> Structure:
        return Structure(self._checkpoint)

    @cached_property
    def _records(self) -> Records:
        return Records(self._checkpoint)

    def _problems(self, start: int, limit: int, also: Sequence[Sequence[str]]) -> dict[str, Any]:
        order = {"error": 0, "warning": 1, "info": 2}
        found = [*self._checkpoint.problems, *(Problem(row[0], row[1], row[2], row[3]) for row in also)]  # type: ignore[arg-type]
        found += self._findings()
        problems = sorted(found, key=lambda problem: order.get(problem.severity, 3))
        rows = [
            [problem.severity, problem.code, text.visible(problem.message, 500), text.visible(problem.where, 300)]
            for problem in problems[start : start + limit]
        ]
        counts = [sum(1 for problem in problems if problem.severity == kind) for kind in ("error", "warning")]
        return {"rows": rows, "total": len(problems), "errors": counts[0], "warnings": counts[1]}

    def _checkable(self) -> dict[str, Any]:
        from sdviewer.formats.contents_check import records_to_check

        records, unstated = records_to_check(self._checkpoint)
        return {
            "records": len(records),
            "bytes": sum(record.entry.usize for record in records),
            "unstated": unstated,
        }

    def _metadata(self, limit: int) -> Iterator[dict[str, Any]]:
        """What the file says of itself, in groups: of the writer, of the container, of each state dict."""
        checkpoint = self._checkpoint
        facts: list[list[str]] = [["container", checkpoint.container], ["byte order", checkpoint.byte_order]]
        facts += [[text.visible(str(name), 200), _shown(value)] for name, value in checkpoint.writer.items()]
        yield {"title": "Written by", "where": "what the container says of itself", "rows": facts, "more": 0}
        for name, value in checkpoint.metadata.items():
            if name == "state_dict":
                continue
            pairs = list(value.items()) if isinstance(value, Mapping) else [("", value)]
            group = {
                "title": _TITLES.get(name, text.visible(str(name), 80)),
                "where": text.plural(len(pairs), "entry", "entries"),
                "rows": [[text.visible(str(key), 300), _shown(inner)] for key, inner in pairs[:limit]],
                "more": max(0, len(pairs) - limit),
            }
            yield {**group, "texts": _texts(pairs[:limit])} if checkpoint.container == "safetensors" else group
        if checkpoint.container == "safetensors" and "safetensors" not in checkpoint.metadata:
            yield {"title": _TITLES["safetensors"], "where": "none yet", "rows": [], "more": 0, "texts": []}
        for entry in checkpoint.metadata.get("state_dict", ()):
            modules = list(entry["keys"].items())
            steps = [step if isinstance(step, str) else str(step["value"]) for step in entry["path"]]
            yield {
                "title": "_metadata",
                "where": f"of {text.visible(dotted(steps), 200) or 'the root'}, {text.plural(len(modules), 'module')}",
                "rows": [[text.visible(str(key), 300) or "(whole)", _shown(inner)] for key, inner in modules[:limit]],
                "more": max(0, len(modules) - limit),
            }

    def _clean(self, limit: int) -> dict[str, Any]:
        from sdviewer.formats.saving import LAYOUTS
        from sdviewer.formats.torch_clean import cleaning_of
        from sdviewer.formats.torch_extract import extracted
        from sdviewer.formats.torch_source import TorchSource
        from sdviewer.repair.extraction import lost_tensors, only_model_is_module
        from sdviewer.repair.operations import Extract
        from sdviewer.repair.planning import make_plan
        from sdviewer.repair.recipe import Recipe

        source, container = self._checkpoint.source, self._checkpoint.container
        if not isinstance(source, TorchSource) or container not in LAYOUTS:
            why = "" if container in LAYOUTS else f"{container} files can be read and not written"
            return _not_clean(why)
        found: list[list[Any]] = []
        extract = only_model_is_module([(one.role, one.is_module) for one in self._checkpoint.state_dicts])
        start = None
        if extract:
            try:
                plan = make_plan(Recipe(steps=(Extract(),)), self._checkpoint)
                start = extracted(self._checkpoint, source, plan)
            except SDViewerError as error:
                return _not_clean(error.message)
            assert plan.state_dict is not None
            lost = frozenset(lost_tensors(self._checkpoint, plan.state_dict))
            found = [[path, _LOST if path in lost else _OUTSIDE, int(path in lost), ""] for path in plan.left_out]
        cleaning = cleaning_of(source, start)
        found += [[dotted(one.path), one.what, one.tensors, "None" if one.to_none else ""] for one in cleaning.left_out]
        return {
            "possible": not cleaning.refusal,
            "why": cleaning.refusal,
            "rows": [[text.visible(row[0], 300) or "the whole", *row[1:]] for row in found[:limit]],
            "total": len(found),
            "tensors": sum(row[2] for row in found),
            "extract": extract,
        }


_LOST, _OUTSIDE = "a tensor that state_dict() does not name", "it stands outside of the module"


def _not_clean(why: str) -> dict[str, Any]:
    return {"possible": False, "why": why, "rows": [], "total": 0, "tensors": 0, "extract": False}


_TITLES = {"safetensors": "__metadata__", "index": "Index"}


def _texts(pairs: Sequence[tuple[str, Any]]) -> list[list[str | None]]:
    """Names and values as they are, for an editor; None for a value that is no text, or more than one can edit."""
    return [[name, value if isinstance(value, str) and len(value) <= LONGEST_EDITED else None] for name, value in pairs]


def _shown(value: Any) -> str:
    """A value of metadata on one line."""
    if isinstance(value, str):
        return text.visible(value, 2000)
    if isinstance(value, Mapping) and len(value) == 1 and "version" in value:
        return f"version {text.visible(str(value['version']), 200)}"
    try:
        said = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        said = "(nested too deeply to be shown)"
    return text.visible(said, 2000)
