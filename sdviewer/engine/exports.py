"""Taking tensors and rows out of a document: what its worker says of it, and what a process of its own does.

`rows` are rows of the sheet; a row with others below it stands for all tensors below, without those that the recipe
drops. What the recipe renames has its new name, what it computes is computed.

    would_export  {"rows", "kind", "raw": bool} -> {"tensors": n, "name": of the one tensor or of what they are in,
                  "lacking": n of a type that NumPy lacks, "nbytes", "losses": [sentence], "error": as a failure of a
                  worker, or null}
    export        {"path", "recipe", "identity", "rows", "kind", "raw", "out", "overwrite", "split_names"}
                  -> {"out", "tensors": n, "size": bytes, "sha256", "checks": [sentence], "identity": {...} or null}
                  with progress in bytes; opens `path` itself and wants `identity` (of `info`)

    row_texts     {"rows", "limit"} -> {"text"}     what the tree says of rows, as a table with tabs between its cells
    row_value     {"row"} -> {"text"}     a value that is no tensor, whole

`kind` is one of `formats.exporting.EXPORTS`; `raw`: types that NumPy lacks as bytes without a type, not as float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.progress import Progress
from sdviewer.core.tree import ModuleTree
from sdviewer.engine.failures import failure
from sdviewer.engine.frames import Answer
from sdviewer.engine.naming import before_naming
from sdviewer.errors import SaveError, SDViewerError, UsageError
from sdviewer.formats.exporting import Pick, Picks, distinct, export, lacking, outlook
from sdviewer.formats.temporary import Replacing
from sdviewer.repair.plan import Computed, Kept, Plan, shifted

Params = Mapping[str, Any]


class Document(Protocol):
    """What is asked of the document."""

    @property
    def checkpoint(self) -> Checkpoint: ...
    @property
    def result(self) -> Checkpoint: ...
    @property
    def tree(self) -> ModuleTree: ...
    @property
    def computed(self) -> Mapping[int, Computed]: ...
    def plan_of(self, tensor: int) -> Plan | None: ...
    def key(self, row: int) -> str: ...
    def prefix(self, row: int) -> str: ...
    def open(self, params: Params, progress: Progress) -> Answer: ...


class Exports:
    """The exports of one document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.requests: Mapping[str, Callable[[Params, Progress], Answer]] = {
            "would_export": self.would_export,
            "export": self.export,
            "row_texts": self.row_texts,
            "row_value": self.row_value,
        }

    def would_export(self, params: Params, progress: Progress) -> Answer:
        """What an export would write and lose."""
        document = self._document
        # An edit that was on its way may have taken a row away.
        rows = [row for row in params["rows"] if row >= 0]
        picks = self._picks(rows)
        body: dict[str, Any] = {
            "tensors": len(picks.picks),
            "name": self._name(rows, picks),
            "lacking": lacking(document.checkpoint, picks),
            "nbytes": 0,
            "losses": [],
            "error": None,
        }
        try:
            body["nbytes"], said = outlook(document.checkpoint, picks, params["kind"], raw=bool(params["raw"]))
            body["losses"] = [text.visible(one) for one in said]
        except SDViewerError as error:
            body["error"] = failure(error)
        return Answer(body)

    def export(self, params: Params, progress: Progress) -> Answer:
        """Write the file."""
        document = self._document
        document.open({"path": params["path"], "recipe": params["recipe"]}, lambda done, total: progress(0, 0))
        if asdict(document.checkpoint.identity) != params["identity"]:
            raise SaveError(
                "the file on disk is not the one that was opened",
                path=params["path"],
                remedy="Reload it (F5), then export again.",
                code="file_changed",
            )
        picks = self._picks(params["rows"])
        receipt = export(
            document.checkpoint,
            picks,
            params["out"],
            params["kind"],
            raw=bool(params["raw"]),
            replacing=Replacing(bool(params["overwrite"]), bool(params["split_names"])),
            progress=progress,
            before_naming=before_naming(progress),
        )
        return Answer(
            {
                "out": params["out"],
                "tensors": len(picks.picks),
                "size": receipt.size,
                "sha256": receipt.sha256,
                "checks": list(receipt.checks),
                "identity": None if receipt.identity is None else asdict(receipt.identity),
            }
        )

    def row_texts(self, params: Params, progress: Progress) -> Answer:
        """Rows as a table of text with a head, in the order of the file."""
        tree = self._document.tree
        lines = ["key\tshape\tdtype\tparams\tbytes\tnote"]
        for row in sorted(row for row in params["rows"] if row >= 0)[: params["limit"]]:
            numbers = (str(tree.params[row]), str(tree.nbytes[row])) if tree.tensors[row] else ("", "")
            key = self._document.prefix(row).removesuffix(".") or self._document.key(row)
            cells = (key, tree.shape[row], tree.dtype[row], *numbers, tree.note[row])
            lines.append("\t".join(text.visible(cell, 1000) for cell in cells))
        return Answer({"text": "\n".join(lines)})

    def row_value(self, params: Params, progress: Progress) -> Answer:
        """A value that is no tensor, whole: a text as it is, a number with all its digits."""
        at = self._document.tree.value[params["row"]]
        if at < 0:
            raise UsageError("this row holds no value")
        value = self._document.result.values[at].value
        return Answer({"text": value if isinstance(value, str) else str(value)})

    def _picks(self, rows: Sequence[int]) -> Picks:
        document = self._document
        tree, result = document.tree, document.result
        found = _tensor_rows(tree, rows)
        infos = [result.tensors[tree.tensor[row]] for row in found]
        names = distinct([tree.path_text[row] or "tensor" for row in found], [info.path for info in infos])
        entries: list[int] = []
        starts: dict[int, int] = {}
        others: dict[str, Checkpoint] = {}
        picks = []
        for row, name in zip(found, names, strict=True):
            index = tree.tensor[row]
            plan, value = document.plan_of(index), document.computed.get(index)
            if plan is None or plan.state_dict is None or value is None:
                entries.append(index)
                picks.append(Pick(name, Kept(len(entries) - 1)))
                continue
            if plan.state_dict not in starts:
                starts[plan.state_dict] = len(entries)
                entries.extend(document.checkpoint.state_dicts[plan.state_dict].tensor_of)
                others.update(plan.others)
            picks.append(Pick(name, shifted(value, starts[plan.state_dict])))
        return Picks(tuple(picks), tuple(entries), others)

    def _name(self, rows: Sequence[int], picks: Picks) -> str:
        """What a file of them could be called: the one tensor, the one row that they are in, else the file's name."""
        if len(picks.picks) == 1:
            return picks.picks[0].name
        if len(rows) == 1:
            tree = self._document.tree
            names = [tree.name[at] for at in [*tree.ancestors(rows[0]), rows[0]] if tree.kind[at] != "fold"]
            return ".".join(names[1:] or names)
        return "tensors"


def _tensor_rows(tree: ModuleTree, rows: Sequence[int]) -> list[int]:
    """The rows of all tensors at or below these, each once; of what a tensor is made of, the tensor."""
    found: list[int] = []
    done = 0
    for row in sorted(rows):
        at, end = max(row, done), tree.end[row]
        while at < end:
            if tree.tensor[at] >= 0:
                if at == row or not tree.dropped[at]:
                    found.append(at)
                at = tree.end[at]
            else:
                at += 1
        done = max(done, end)
    return found
