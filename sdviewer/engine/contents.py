"""What a document's worker answers of all that is in its file, beside the module tree.

Requests (name: parameters -> body of the result); lists come in pages, `start` and `limit` count rows.

    structure    {"item", "start", "limit"} -> {"rows": [ROW], "total"}     item 0 is the file (engine.structure)
    records      {"start", "limit"} -> {"rows", "total", "bytes", "file"}   (engine.records)
    record_text  {"record"} -> {"name", "text", "note"}
    storages     {"start", "limit"} -> {"rows", "total", "nbytes", "unused", "shared"}
    metadata     {"limit"} -> {"groups": [{"title", "where", "rows": [[name, value]], "more": n}]}
    problems     {"start", "limit"} -> {"rows": [[severity, code, message, where]], "total", "errors", "warnings"}
    clean        {"limit"} -> {"possible": bool, "why", "rows": [[place, what, tensors, "" or "None"]], "total",
                 "tensors"}     what a clean copy leaves out
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.paths import dotted
from sdviewer.core.progress import Progress
from sdviewer.engine.frames import Answer
from sdviewer.engine.records import Records, storages_page
from sdviewer.engine.structure import Structure

Params = Mapping[str, Any]

CONTENTS = ("structure", "records", "record_text", "storages", "metadata", "problems", "clean")
"""The requests."""


class Contents:
    """The file of one document; what is asked for first is made then."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self.requests: Mapping[str, Callable[[Params, Progress], Answer]] = {
            "structure": lambda p, _: Answer(self._structure.children(p["item"], p["start"], p["limit"])),
            "records": lambda p, _: Answer(self._records.page(p["start"], p["limit"])),
            "record_text": lambda p, _: Answer(self._records.text_of(p["record"])),
            "storages": lambda p, _: Answer(storages_page(checkpoint, p["start"], p["limit"])),
            "metadata": lambda p, _: Answer({"groups": list(self._metadata(p["limit"]))}),
            "problems": lambda p, _: Answer(self._problems(p["start"], p["limit"])),
            "clean": lambda p, _: Answer(self._clean(p["limit"])),
        }

    @cached_property
    def _structure(self) -> Structure:
        return Structure(self._checkpoint)

    @cached_property
    def _records(self) -> Records:
        return Records(self._checkpoint)

    def _problems(self, start: int, limit: int) -> dict[str, Any]:
        order = {"error": 0, "warning": 1, "info": 2}
        problems = sorted(self._checkpoint.problems, key=lambda problem: order.get(problem.severity, 3))
        rows = [
            [problem.severity, problem.code, text.visible(problem.message, 500), text.visible(problem.where, 300)]
            for problem in problems[start : start + limit]
        ]
        counts = [sum(1 for problem in problems if problem.severity == kind) for kind in ("error", "warning")]
        return {"rows": rows, "total": len(problems), "errors": counts[0], "warnings": counts[1]}

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
            yield {
                "title": _TITLES.get(name, text.visible(str(name), 80)),
                "where": text.plural(len(pairs), "entry", "entries"),
                "rows": [[text.visible(str(key), 300), _shown(inner)] for key, inner in pairs[:limit]],
                "more": max(0, len(pairs) - limit),
            }
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
        from sdviewer.formats.torch_source import TorchSource

        source, container = self._checkpoint.source, self._checkpoint.container
        if not isinstance(source, TorchSource) or container not in LAYOUTS:
            why = "" if container in LAYOUTS else f"{container} files can be read and not written"
            return {"possible": False, "why": why, "rows": [], "total": 0, "tensors": 0}
        cleaning = cleaning_of(source)
        rows = [
            [text.visible(dotted(one.path), 300) or "the whole", one.what, one.tensors, "None" if one.to_none else ""]
            for one in cleaning.left_out[:limit]
        ]
        return {
            "possible": not cleaning.refusal,
            "why": cleaning.refusal,
            "rows": rows,
            "total": len(cleaning.left_out),
            "tensors": cleaning.tensors,
        }


_TITLES = {"safetensors": "__metadata__", "index": "Index"}


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
