"""Targets of a fit: what somebody names or pastes, told by its content, as the keys of a model.

Law: a text or a file never runs anything. A class, a factory or a config is built in a process of its own
(`engine/model_child`), and only where whoever calls says so (`run`).
"""

from __future__ import annotations

import os
from pathlib import Path

from sdviewer.core.key_table import KeyTable, key_table_of_checkpoint
from sdviewer.core.paths import dotted
from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.text import size
from sdviewer.errors import OpenError, UsageError
from sdviewer.formats import open_checkpoint
from sdviewer.repair.key_lists import is_json, read_json, table_of_json, table_of_lines
from sdviewer.repair.messages import read_message
from sdviewer.repair.messages.as_target import target_of_message
from sdviewer.repair.state_dicts import choose_state_dict
from sdviewer.repair.target import Target

MOST_BYTES = 128 << 20
"""A text of keys is not longer; 400,000 keys with their shapes are 30 MiB."""

_LOOK = 4096


def read_target(
    name: str,
    *,
    source: KeyTable,
    state_dict: str | None = None,
    progress: Progress = no_progress,
) -> Target:
    """The target that somebody names: what is at this path.

    `state_dict` is the dotted path of the one that is meant in a checkpoint.

    Raises:
        UsageError: there is nothing at it, or no target in it (code `bad_target`).
        OpenError: it cannot be read.
    """
    text = text_at(name, progress)
    if text is not None:
        return target_of_text(text, source=source, name=name)
    checkpoint = open_checkpoint(name, progress=progress)
    index = choose_state_dict(checkpoint, state_dict)
    label = dotted(checkpoint.state_dicts[index].path)
    base = os.path.basename(name.rstrip("/")) or name  # noqa: PTH119  any text
    return Target("checkpoint", f"{base} · {label}" if label else base, key_table_of_checkpoint(checkpoint, index))


def target_of_text(text: str, *, source: KeyTable, name: str = "") -> Target:
    """The target in a text: a load message, a list of keys, one a line or as JSON.

    Raises:
        UsageError: it is none of these (code `bad_target`).
    """
    base = os.path.basename(name)  # noqa: PTH119  any text
    if is_json(text):
        value = read_json(text, name)
        return Target("keys", base or "keys", table_of_json(value, name))
    message = read_message(text)
    if message is not None:
        return target_of_message(message, source, name=base or "load message")
    table = table_of_lines(text, name)
    return Target("keys", base or "keys", table)


def text_at(path: str, progress: Progress = no_progress) -> str | None:
    """The text in a file, None where it is a checkpoint or a folder.

    Raises:
        UsageError: it is too long to be a list of keys or a message.
    """
    if os.path.isdir(path):  # noqa: PTH112  any text
        return None
    with open(path, "rb") as file:  # noqa: PTH123
        start = file.read(_LOOK)
    if not _is_text(start):
        return None
    try:
        checkpoint = open_checkpoint(path, progress=progress)
    except OpenError:
        checkpoint = None
    if checkpoint is not None and checkpoint.state_dicts:
        return None
    nbytes = Path(path).stat().st_size
    if nbytes > MOST_BYTES:
        raise UsageError(f"it is a text of {size(nbytes)}, too long for a target", path=path, code="too_large")
    return Path(path).read_bytes().decode("utf-8", "replace")


def _is_text(start: bytes) -> bool:
    """Whether a file begins as a text does: UTF-8, with no control characters but those of lines and terminals."""
    whole = start.decode("utf-8", "ignore")
    return b"\0" not in start and len(whole.encode()) >= len(start) - 3 and start[:1] != b"\x80"
