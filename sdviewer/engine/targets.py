"""Targets of a fit: what somebody names or pastes, told by its content, as the keys of a model.

Law: a text or a file never runs anything. A class, a factory or a config is built in a process of its own
(`engine/models`), and only where whoever calls says so (`run`).
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sdviewer.core import text as words
from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.key_table import KeyTable, key_table_of_checkpoint
from sdviewer.core.paths import dotted
from sdviewer.core.progress import Progress, no_progress
from sdviewer.engine.model_names import model_of_name
from sdviewer.engine.models import TIMEOUT, Model
from sdviewer.errors import OpenError, UnknownFormat, UsageError
from sdviewer.formats import open_checkpoint
from sdviewer.formats.file import opened
from sdviewer.repair.key_lists import Pairs, is_json, read_json, table_of_json, table_of_lines
from sdviewer.repair.messages import read_message
from sdviewer.repair.messages.as_target import target_of_message
from sdviewer.repair.state_dicts import choose_state_dict
from sdviewer.repair.target import Kind, Target

MOST_BYTES = 128 << 20
"""A text of keys is not longer; 400,000 keys with their shapes are 30 MiB."""

CONFIG = "config.json"
"""What the libraries of Hugging Face call a config; that of a folder without weights is meant where none is named."""

Built = Callable[[Model], None]

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

_CONFIG_FIELDS = ("model_type", "_class_name", "architecture")


def read_target(
    name: str,
    *,
    source: KeyTable,
    state_dict: str | None = None,
    run: bool = False,
    arguments: str = "",
    folder: str = "",
    timeout: float = TIMEOUT,
    built: Built = Model.close,
    progress: Progress = no_progress,
) -> Target:
    """The target that somebody names: what is at this path or, only where nothing is, a class or factory.

    Args:
        name: a path, or `package.module:Class`, `file.py:factory`, with arguments in parentheses if it needs some.
        source: the keys that are to fit, which a load message is about.
        state_dict: the dotted path of the one that is meant in a checkpoint.
        run: whether a class or a config may be built, in a process of its own.
        arguments: those of a class or factory, as `depth=3, name="a"` or as JSON.
        folder: on the import path of a module, "" for the current one.
        timeout: seconds that building may take.
        built: who gets the model, in its process, that was built; it ends where nobody wants it.

    Raises:
        OpenError: there is nothing, it cannot be read, or it is no target (code `bad_target`).
        ModelFailed: the model cannot be built.
        UsageError: its state dicts are several, its arguments none, or it may not be run (code `run_needed`).
        Cancelled: from `progress`.
    """
    text = text_of(name, progress)
    if text is not None:
        return target_of_text(text, source=source, name=name, run=run, timeout=timeout, built=built, progress=progress)
    if os.path.lexists(name):
        checkpoint = open_checkpoint(name, progress=progress)
        return target_of_checkpoint(checkpoint, choose_state_dict(checkpoint, state_dict), name)
    return _built("class", _model_at(name, arguments, folder), name, run, timeout, built, progress)


def target_of_checkpoint(checkpoint: Checkpoint, index: int, name: str) -> Target:
    """The keys of one of its state dicts."""
    label = dotted(checkpoint.state_dicts[index].path)
    table = key_table_of_checkpoint(checkpoint, index)
    return Target("checkpoint", f"{_base(name)} · {label}" if label else _base(name), table, nested=bool(label))


def target_of_text(
    text: str,
    *,
    source: KeyTable,
    name: str = "",
    run: bool = False,
    timeout: float = TIMEOUT,
    built: Built = Model.close,
    progress: Progress = no_progress,
) -> Target:
    """The target in a text that was pasted or read: a config, keys as JSON or one a line, or a load message.

    Raises:
        OpenError: it is none of these (code `bad_target`).
        ModelFailed: the model of a config cannot be built.
        UsageError: the text is a config, which may not be built (code `run_needed`).
        Cancelled: from `progress`.
    """
    if is_json(text):
        value = read_json(text, name)
        config = config_in(value)
        if config is not None:
            return _built("config", {"config": config}, name, run, timeout, built, progress)
        return Target("keys", _base(name), table_of_json(value, name))
    message = read_message(text)
    if message is not None:
        try:
            return target_of_message(message, source, name=_base(name))
        except OpenError as error:
            error.path = error.path or name
            raise
    try:
        return Target("keys", _base(name), table_of_lines(text, name))
    except OpenError as error:
        if name.lower().endswith(".py"):
            error.remedy = f"A class or factory in it is named with a colon: {_base(name)}:Net."
        raise


def kind_of_target(name: str, *, progress: Progress = no_progress) -> Kind:
    """What a name stands for, before anything is built: a class and a config are run.

    Raises:
        OpenError: there is nothing, or it cannot be read.
    """
    text = text_of(name, progress)
    if text is None:
        if os.path.lexists(name):
            return "checkpoint"
        _model_at(name, "", "")
        return "class"
    return kind_of_text(text)


def kind_of_text(text: str) -> Kind:
    """What a text is; "keys" where it is none of the others."""
    if is_json(text):
        return "config" if config_in(read_json(text)) is not None else "keys"
    return "keys" if read_message(text) is None else "message"


def _built(
    kind: Kind,
    what: Mapping[str, Any],
    name: str,
    run: bool,
    timeout: float,
    built: Built,
    progress: Progress,
) -> Target:
    if not run:
        raise UsageError(
            "this builds a model, which runs its code" if kind == "class" else "this builds the model of a config",
            path=name,
            remedy="It is done in a process of its own, and only if you say so.",
            code="run_needed",
        )
    model = Model(what, name=name, timeout=timeout, progress=progress)
    built(model)
    table = model.table
    lazy = sum([shape is None for at, shape in enumerate(table.shapes) if at not in table.not_tensors])
    notes = (f"The shape of {words.plural(lazy, 'key')} is not known before the model has seen data.",) if lazy else ()
    heads = head_dim_of(what.get("config") or {})
    shown = _base(name) if kind == "config" else _without_folder(name)
    return Target(kind, shown, table, model=model.model, notes=notes, head_dim=heads)


def head_dim_of(config: Mapping[str, Any]) -> int:
    """How many numbers an attention head of a transformers config has, 0 where it does not say."""
    stated, width, heads = (
        value if type(value) is int and value > 0 else 0
        for value in map(config.get, ("head_dim", "hidden_size", "num_attention_heads"))
    )
    return stated or (width // heads if heads and width % heads == 0 else 0)


def _model_at(name: str, arguments: str, folder: str) -> Mapping[str, Any]:
    """What is to be built for a name at which no file is.

    Raises:
        OpenError: it is no name of a model, or its Python file is not there (code `not_found`).
    """
    what = model_of_name(name, arguments, folder)
    if what is None:
        raise OpenError(
            "there is no such file",
            path=name,
            remedy="A class is named package.module:Class, a factory file.py:factory.",
            code="not_found",
        )
    if what["file"] and not os.path.isfile(what["file"]):  # noqa: PTH113  any text
        raise OpenError("there is no such file", path=what["file"], code="not_found")
    return what


def config_in(value: Any) -> dict[str, Any] | None:
    """A JSON object that describes a model, as the libraries write it; None for any other value."""
    if not isinstance(value, Pairs):
        return None
    known = any(key in _CONFIG_FIELDS and isinstance(field, str) for key, field in value)
    return value.plain() if known else None


def text_of(name: str, progress: Progress) -> str | None:
    """The text in a file; None where there is none, where it is a checkpoint, or a folder with one.

    Raises:
        OpenError: it cannot be read, or is too long (code `too_large`).
    """
    if not os.path.lexists(name):
        return None
    if os.path.isdir(name):  # noqa: PTH112  any text
        config = os.path.join(name, CONFIG)  # noqa: PTH118
        try:
            open_checkpoint(name, progress=progress)
        except UnknownFormat:
            return text_of(config, progress) if os.path.isfile(config) else None  # noqa: PTH113
        return None
    with opened(name) as file:
        start, nbytes = file.head.start, file.head.size
    if not _is_text(start):
        return None
    try:
        if open_checkpoint(name, progress=progress).state_dicts:
            return None
    except OpenError:
        pass  # some texts begin like a pickle
    if nbytes > MOST_BYTES:
        raise OpenError(f"it is a text of {words.size(nbytes)}, too long for a target", path=name, code="too_large")
    return decoded(Path(name).read_bytes())


def decoded(raw: bytes) -> str:
    """A text of a file or of stdin: UTF-8, or the UTF-16 that `>` of PowerShell writes; what is neither is replaced."""
    return raw.decode("utf-16" if raw.startswith(_UTF16) else "utf-8", "replace")


def _is_text(start: bytes) -> bool:
    """Whether a file begins as a text does: UTF-8, perhaps cut within a character, and no byte that is zero; UTF-16."""
    if start.startswith(_UTF16):
        return True
    return b"\0" not in start and len(start) - len(start.decode("utf-8", "ignore").encode()) <= 3


def _without_folder(name: str) -> str:
    """A class or factory as people call it, whose arguments may be paths as well."""
    folder = os.path.dirname(name.partition("(")[0])  # noqa: PTH120  any text
    return name[len(folder) :].lstrip("/\\")


def _base(name: str) -> str:
    return os.path.basename(name.rstrip("/\\")) or name  # noqa: PTH119  any text
