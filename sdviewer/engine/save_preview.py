"""What a document's worker answers about a save before it happens, and about the keys of one that did.

`recipe` is a recipe's text. Nothing is written by any of these.

    would_save  {"recipe", "out", "container"?: name, "" for what the name and the file suggest} -> WOULD
    save_map    {"recipe", "out", "container", "filter": text, "changed": bool, "start", "limit"} -> {"rows": [[key in
                the file, key in the copy or "", what became of it, "same" | "renamed" | "made" | "dropped"]], "total",
                "all": n rows without the filter, "different": n of them that are not "same"}
    script      {"recipe", "as"?: name} -> {"text"}     a Python program that does the same without sdviewer
                (repair.script), or what a loader takes for this file (repair.export)
    slim        {"recipe"} -> what stands beside the weights (engine.slim)

    WOULD   {"container", "own": the file's own, "containers": [what it can be written in], "tensors_alone": whether it
            gets the tensors of one state dict and nothing else, "written": n entries,
            "renamed", "dropped", "made", "size", "copied", "computed": bytes, "losses": [[code, sentence]], "warnings":
            [sentence] of the recipe, "notes": [sentence], "ties": {"count", "rows": [[key, the key it is tied to]]},
            "free": bytes, -1 where nobody says, "there": THERE | null, "refused": why OUT cannot be it, "error": why
            this cannot be written at all}; these two as a failure of a worker, or null
    THERE   {"size", "age": seconds since it was changed, "other_names": n, "folder": bool}     what is at OUT
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, Identity
from sdviewer.core.progress import Progress
from sdviewer.engine.failures import Failure, failure
from sdviewer.engine.frames import Answer
from sdviewer.engine.in_turn import in_turn
from sdviewer.engine.slim import slim_parts
from sdviewer.errors import SDViewerError, UnsupportedContainer
from sdviewer.formats.converting import CONTAINERS, takes_tensors_alone
from sdviewer.formats.other_files import OtherFiles, files_of, is_unchanged
from sdviewer.formats.receipt import Receipt
from sdviewer.formats.saving import MADE_ANEW, choose_container, refuse_target, save
from sdviewer.formats.tensors_out import ties_of
from sdviewer.formats.torch_graph import keeps_objects
from sdviewer.repair.export import export_text, keys_for
from sdviewer.repair.other_files import Others, no_others
from sdviewer.repair.plan import Plan
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import Recipe, parse_recipe
from sdviewer.repair.script import program

LOSSES = ("left_out", "tensor_left_out", "converted", "attributes_lost")
"""Codes of warnings that say what a container cannot hold."""

SHOWN_TIES = 50

Params = Mapping[str, Any]
Row = tuple[str, str, str, str]


class Document(Protocol):
    """What is asked of the document."""

    @property
    def checkpoint(self) -> Checkpoint: ...
    @property
    def plan(self) -> Plan | None: ...
    @property
    def others(self) -> OtherFiles: ...


class _Dry(NamedTuple):
    """A save that was laid out and not written; `name` is that of the file, which its size may depend on."""

    recipe: Recipe
    container: str
    identity: Identity
    name: str
    plan: Plan
    receipt: Receipt


class SavePreview:
    """Dry runs of saves of one document; the last one is kept, its map is looked at in pages."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._last: _Dry | None = None
        self._rows: tuple[object, list[Row]] = (None, [])
        self.requests: Mapping[str, Callable[[Params, Progress], Answer]] = {
            "would_save": self.would_save,
            "save_map": self.save_map,
            "script": self.script,
            "slim": lambda params, _: Answer(
                slim_parts(self._document.checkpoint, _recipe(params), self._document.others)
            ),
        }

    def script(self, params: Params, progress: Progress) -> Answer:
        """The recipe as a program, or in the words of a loader."""
        recipe, form = _recipe(params), params.get("as")
        if not form:
            return Answer({"text": program(recipe)})
        return Answer({"text": export_text(str(form), recipe, keys_for(recipe, self._document.checkpoint))})

    def would_save(self, params: Params, progress: Progress) -> Answer:
        """What a save would write and lose, and what stands against it."""
        checkpoint, recipe, out = self._document.checkpoint, _recipe(params), str(params["out"])
        plan = self._document.plan
        body: dict[str, Any] = {
            "own": checkpoint.container,
            "containers": containers_of(checkpoint),
            "free": _free(out),
            "there": _there(out),
            "refused": None,
            "error": None,
        }
        container = str(params.get("container") or "") or _suggested(checkpoint, recipe, out)
        body |= {"container": container, "tensors_alone": takes_tensors_alone(checkpoint, container)}
        try:
            refuse_target(checkpoint, out, container, inputs=() if plan is None else files_of(plan.others.values()))
        except SDViewerError as error:
            body["refused"] = failure(error)
        try:
            dry = self._dry(recipe, container, _elsewhere(checkpoint) if body["refused"] else out, progress)
        except SDViewerError as error:
            return Answer({**body, "error": _shown(failure(error)), **_NOTHING})
        return Answer({**body, **_told(dry, checkpoint)})

    def _dry(self, recipe: Recipe, container: str, out: str, progress: Progress, *, any_name: bool = False) -> _Dry:
        checkpoint, others, name, last = self._document.checkpoint, self._document.others, Path(out).name, self._last
        wanted = (recipe, container, checkpoint.identity)
        stale = last is None or not all(map(is_unchanged, last.plan.others.values()))
        if last is None or stale or last[:3] != wanted or (last.name != name and not any_name):
            last = self._last = _Dry(*wanted, name, *lay_out(checkpoint, recipe, container, out, progress, others))
        return last

    def save_map(self, params: Params, progress: Progress) -> Answer:
        """A page of what became of each key."""
        checkpoint, recipe = self._document.checkpoint, _recipe(params)
        key = (params["recipe"], params["container"], checkpoint.identity)
        if self._rows[0] != key:
            # The copy that was written is there now, under its own name: laid out for another one.
            dry = self._dry(recipe, str(params["container"]), _elsewhere(checkpoint), progress, any_name=True)
            self._rows = (key, list(_map_rows(dry.receipt)))
        rows = self._rows[1]
        different = sum(1 for row in rows if row[3] != "same")
        words = str(params["filter"]).lower().split()
        found = [
            row
            for row in rows
            if (row[3] != "same" or not params["changed"])
            and all(word in row[0].lower() or word in row[1].lower() for word in words)
        ]
        start = int(params["start"])
        page = [[*map(text.visible, row[:3]), row[3]] for row in found[start : start + int(params["limit"])]]
        return Answer({"rows": page, "total": len(found), "all": len(rows), "different": different})


def lay_out(
    checkpoint: Checkpoint, recipe: Recipe, container: str, out: str, progress: Progress, others: Others = no_others
) -> tuple[Plan, Receipt]:
    """All that a save does before it writes, with its receipt.

    Raises:
        SDViewerError: as `formats.saving.save`.
    """
    alone = takes_tensors_alone(checkpoint, container)
    with in_turn(checkpoint, recipe, None, out, container, others, dry_run=True) as turn:
        plan = make_plan(turn.recipe, turn.checkpoint, state_dict=turn.name, tensors_alone=alone, others=others)
        receipt = save(
            *(checkpoint, plan, out),
            container=container,
            overwrite=True,
            dry_run=True,
            shared=recipe.save.shared,
            max_shard_bytes=recipe.save.max_shard_bytes,
            progress=progress,
        )
        receipt, _, _ = turn.finished(receipt, plan, None)
    return plan, receipt


def containers_of(checkpoint: Checkpoint) -> list[str]:
    """The containers that a checkpoint can be written in, its own first."""
    own = checkpoint.container
    others = [name for name in CONTAINERS if name != own]
    return [own, *others] if own in CONTAINERS and own not in MADE_ANEW else others


def _suggested(checkpoint: Checkpoint, recipe: Recipe, out: str) -> str:
    """What the name of the copy and the file ask for; where that cannot be written, what is most alike."""
    try:
        return choose_container(checkpoint, out, None, recipe.save_format)
    except UnsupportedContainer:
        return "torch-zip" if keeps_objects(checkpoint, "torch-zip") else "safetensors"


def _recipe(params: Params) -> Recipe:
    wanted = str(params["recipe"])
    return parse_recipe(wanted) if wanted.strip() else Recipe()


def _elsewhere(checkpoint: Checkpoint) -> str:
    """A name that nothing has, for a save that is only laid out."""
    return str(Path(checkpoint.path).absolute().parent / f".{os.getpid()}.sdviewer-dry-run")


def _shown(told: Failure) -> Failure:
    """A failure without the name that nobody chose."""
    return {**told, "path": ""}


_NOTHING: Mapping[str, Any] = {
    **dict.fromkeys(("written", "renamed", "dropped", "made", "size", "copied", "computed"), 0),
    "losses": [],
    "warnings": [],
    "notes": [],
    "ties": {"count": 0, "rows": []},
}


def _told(dry: _Dry, checkpoint: Checkpoint) -> dict[str, Any]:
    """A dry run in numbers and sentences."""
    receipt = dry.receipt
    kinds = [row[3] for row in _map_rows(receipt)]
    ties = ties_of(checkpoint, dry.plan)
    warnings = [(w.code, text.visible(w.message, 600)) for w in receipt.warnings]
    return {
        "written": receipt.written,
        "renamed": kinds.count("renamed"),
        "made": kinds.count("made"),
        "dropped": len(receipt.dropped),
        "size": receipt.size,
        "copied": receipt.copied_bytes,
        "computed": receipt.computed_bytes,
        "losses": [list(warning) for warning in warnings if warning[0] in LOSSES],
        "warnings": [message for code, message in warnings if code not in LOSSES],
        "notes": [text.visible(note, 400) for note in receipt.notes],
        "ties": {
            "count": len(ties),
            "rows": [[text.visible(key), text.visible(kept)] for key, kept in list(ties.items())[:SHOWN_TIES]],
        },
    }


def _map_rows(receipt: Receipt) -> Iterator[Row]:
    """What became of each key: its own name, its new one, in words, in a word."""
    for key, made in receipt.map.items():
        if isinstance(made, str):
            yield (key, made, "kept as it is", "same") if made == key else (key, made, "renamed", "renamed")
        elif made["op"] == "drop":
            reason = str(made.get("reason") or "")
            yield (key, "", f"left out: {reason}" if reason else "left out", "dropped")
        else:
            to = made["to"]
            names = [to] if isinstance(to, str) else list(to)
            more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
            yield (key, ", ".join(map(str, names[:3])) + more, str(made["op"]).replace("_", " "), "made")


def _free(out: str) -> int:
    """Bytes that may still be written where OUT is, -1 where the system does not say."""
    try:
        return shutil.disk_usage(Path(out).absolute().parent).free
    except (OSError, ValueError):
        return -1


def _there(out: str) -> dict[str, Any] | None:
    """What stands at OUT now, behind symbolic links."""
    try:
        found = Path(out).stat()
    except (OSError, ValueError):
        return None
    age = max(0.0, time.time() - found.st_mtime)
    folder = stat.S_ISDIR(found.st_mode)
    return {"size": found.st_size, "age": age, "other_names": 0 if folder else found.st_nlink - 1, "folder": folder}
