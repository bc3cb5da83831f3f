"""Fits: a file and what it has to fit opened, and `repair.fit` asked; the same for the window and the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.key_table import KEY_LIST, KeyTable, checkpoint_of_table, key_table_of_checkpoint
from sdviewer.core.paths import dotted
from sdviewer.core.progress import Progress, no_progress
from sdviewer.engine.adapter_config import scale_beside
from sdviewer.engine.models import TIMEOUT, Model
from sdviewer.engine.targets import Built, kind_of_text, read_target, target_of_checkpoint, target_of_text, text_of
from sdviewer.errors import NoMatch, OpenError, UnknownFormat, UsageError
from sdviewer.formats import open_checkpoint
from sdviewer.formats.other_files import OtherFiles
from sdviewer.repair.adapters import Adapter, adapter_in, merging
from sdviewer.repair.fit import Fit, fit_to
from sdviewer.repair.key_lists import is_json, read_json, table_of_json, table_of_lines
from sdviewer.repair.matching.contents import Contents
from sdviewer.repair.state_dicts import AUTO, choose_state_dict
from sdviewer.repair.suggestion import Suggestion
from sdviewer.repair.target import Target
from sdviewer.repair.wording import quoted


@dataclass(frozen=True, slots=True)
class FittedFile:
    """What was found out about a file: `name` as people call it, `inputs` the paths of all that was read for it.

    `is_checkpoint`: it is one that can be repaired, and no list of keys. `adapter`: one of the two is an adapter for
    the other; `merged`: the target is.
    """

    name: str
    fit: Fit
    inputs: tuple[str, ...]
    is_checkpoint: bool
    adapter: Adapter | None = None
    merged: bool = False

    def to_json(self) -> dict[str, Any]:
        """The document of `fit --json`."""
        told = self.fit.to_json()
        if self.adapter is not None:
            told["adapter"] = {"is": "target" if self.merged else "file", **self.adapter.to_json()}
        return told


def fit_files(
    file: str,
    wanted: str,
    *,
    file_text: str | None = None,
    target_text: str | None = None,
    state_dict: str | None = None,
    state_dict_b: str | None = None,
    accept_ambiguous: bool = False,
    run: bool = False,
    timeout: float = TIMEOUT,
    progress: Progress = no_progress,
) -> FittedFile:
    """Find out how `file` can be made to fit `wanted`, both as the user named them; texts go before what they name.

    `run`: a class or a config may be built, in a process of its own.

    Raises:
        OpenError: one of the two cannot be read.
        UsageError: it is not clear what is meant.
        RepairError: the keys of the file cannot be edited.
    """
    source = _open(file, file_text, state_dict, progress)
    goal = read_wanted(
        *(wanted, target_text, source.table), state_dict=state_dict_b, run=run, timeout=timeout, progress=progress
    )
    target = goal.target
    fit = fit_to(
        source.checkpoint,
        source.state_dict,
        source.table,
        target,
        to_root=not target.nested,
        accept_ambiguous=accept_ambiguous,
        contents=_contents(source, goal, progress),
        name=f"{source.name} for {target.title}",
        ahead=merging_into(goal),
        others=OtherFiles(),
    )
    inputs, is_checkpoint = (*source.files, *files_at(wanted)), source.checkpoint.container != KEY_LIST
    return FittedFile(source.name, fit, inputs, is_checkpoint, goal.adapter, goal.merged)


def files_at(name: str) -> Iterator[str]:
    """The files that somebody means by a name, as inputs that no output may be: a folder's too, and a factory's."""
    yield name
    path = Path(name)
    try:
        if path.is_dir():
            yield from map(str, path.iterdir())
    except (OSError, ValueError):
        return
    script, colon, _ = name.rpartition(":")
    if colon and script:
        yield script


class _Source(NamedTuple):
    """One state dict of what is to be repaired."""

    name: str
    checkpoint: Checkpoint
    state_dict: int
    table: KeyTable
    files: tuple[str, ...]


def _open(file: str, text: str | None, state_dict: str | None, progress: Progress) -> _Source:
    """A checkpoint, or a list of keys as one.

    Raises:
        OpenError: it is neither, or cannot be read.
    """
    name = os.path.basename(file.rstrip("/")) or file  # noqa: PTH119  any text
    if text is not None:
        return _listed("the keys", file, table_of_text(text))
    try:
        checkpoint = open_checkpoint(file, progress=progress)
    except UnknownFormat:
        found = text_of(file, progress)
        if found is None:
            raise
        # (what is wrong with a list of keys is told where it is one, else what the file is)
        if is_json(found) and kind_of_text(found) == "keys":
            return _listed(name, file, table_of_text(found, file))
        with suppress(OpenError):
            return _listed(name, file, table_of_text(found, file))
        raise
    index = _chosen(checkpoint, state_dict)
    shards = [shard.path for shard in checkpoint.shards.values()]
    return _Source(name, checkpoint, index, key_table_of_checkpoint(checkpoint, index), (file, *shards))


def _chosen(checkpoint: Checkpoint, name: str | None) -> int:
    """The state dict that is meant.

    Raises:
        UsageError: it is not clear which.
        OpenError: there is none: nothing of this file can be fitted, or fitted to.
    """
    try:
        return choose_state_dict(checkpoint, name)
    except NoMatch as error:
        remedy = "`sdviewer info` shows what it holds."
        raise OpenError(error.message, path=error.path, remedy=remedy) from None


def _listed(name: str, file: str, table: KeyTable) -> _Source:
    return _Source(name, checkpoint_of_table(table, file), 0, table, (file,))


def read_wanted(
    wanted: str,
    text: str | None,
    source: KeyTable,
    *,
    state_dict: str | None = None,
    run: bool = False,
    timeout: float = TIMEOUT,
    folder: str = "",
    built: Built = Model.close,
    progress: Progress = no_progress,
) -> Wanted:
    """The target at a name, or in a text that goes before it; `run`: a class or a config may be built.

    `folder` is on the import path of a class, "" for the current one; `built` is as for `read_target`.

    Raises:
        OpenError, UsageError: it cannot be read, may not be built, or is none.
    """
    if text is not None:
        target = target_of_text(text, source=source, run=run, timeout=timeout, built=built, progress=progress)
        return with_adapter(Wanted(_only_one(target, state_dict)), source)
    if os.path.lexists(wanted) and text_of(wanted, progress) is None:
        checkpoint = open_checkpoint(wanted, progress=progress)
        index = _chosen(checkpoint, state_dict)
        return with_adapter(Wanted(target_of_checkpoint(checkpoint, index, wanted), checkpoint, index), source)
    target = read_target(
        wanted,
        source=source,
        state_dict=state_dict,
        run=run,
        folder=folder,
        timeout=timeout,
        built=built,
        progress=progress,
    )
    return with_adapter(Wanted(_only_one(target, state_dict)), source)


def _only_one(target: Target, state_dict: str | None) -> Target:
    """A target that is no checkpoint.

    Raises:
        UsageError: one of its state dicts is named, and it has none.
    """
    if state_dict is None or target.kind == "checkpoint":
        return target
    raise UsageError(
        f"{quoted(state_dict)} is to be its state dict, and {target.title} is no checkpoint",
        remedy="Leave --state-dict-b out.",
    )


class Wanted(NamedTuple):
    """A target, and the checkpoint that it is where it is one, with the index of the state dict that is meant.

    `adapter`: one of the two sides is an adapter for the other; `merged`: it is the target.
    """

    target: Target
    checkpoint: Checkpoint | None = None
    state_dict: int = 0
    adapter: Adapter | None = None
    merged: bool = False

    @property
    def values(self) -> Checkpoint | None:
        """The checkpoint whose values are those of the target's keys."""
        return self.checkpoint if self.adapter is None else None


def with_adapter(wanted: Wanted, source: KeyTable) -> Wanted:
    """What is wanted of an adapter for a model is that its pairs have their places; of a model for an adapter, itself.

    A load error names keys of its own, and is left as it is.
    """
    target = wanted.target
    if target.kind == "message":
        return wanted
    if (adapter := adapter_in(source, target.table)) is not None:
        notes = (f"{adapter.sentence('the target')}.", *target.notes)
        return wanted._replace(target=replace(target, table=adapter.table, notes=notes, nested=True), adapter=adapter)
    if wanted.checkpoint is not None and (adapter := adapter_in(target.table, source)) is not None:
        notes = (f"{adapter.sentence('this file')}.", *target.notes)
        made = replace(target, table=source, notes=notes, nested=True)
        return wanted._replace(target=made, adapter=adapter, merged=True)
    return wanted


def merging_into(wanted: Wanted) -> list[Suggestion]:
    """The steps that merge the target into the file, where it is an adapter for it."""
    if wanted.adapter is None or wanted.checkpoint is None or not wanted.merged:
        return []
    checkpoint = wanted.checkpoint
    named = dotted(checkpoint.state_dicts[wanted.state_dict].path) if len(checkpoint.state_dicts) > 1 else AUTO
    path = str(Path(checkpoint.path).absolute())  # (a recipe takes relative ones for those beside it)
    return merging(wanted.adapter, path, named, scale_beside(path))


def _contents(source: _Source, wanted: Wanted, progress: Progress) -> Contents | None:
    """Who tells equal values where both sides hold some."""
    if wanted.values is None or source.checkpoint.container == KEY_LIST:
        return None
    from sdviewer.engine.comparing import Tensors
    from sdviewer.engine.content_match import contents_by_view

    of_a = source.checkpoint.state_dicts[source.state_dict].tensor_of
    of_b = wanted.values.state_dicts[wanted.state_dict].tensor_of
    return contents_by_view(Tensors(source.checkpoint), of_a, Tensors(wanted.values), of_b, progress)


def table_of_text(text: str, path: str = "") -> KeyTable:
    """The keys of a list, one a line or as JSON.

    Raises:
        UsageError: it is none.
    """
    return table_of_json(read_json(text, path), path) if is_json(text) else table_of_lines(text, path)
