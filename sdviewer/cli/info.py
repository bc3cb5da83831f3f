"""`sdviewer info FILE`: what is in it, header only."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from sdviewer.cli.output import print_json, print_line, progress_for, table
from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, TensorInfo
from sdviewer.core.collector import collector_off
from sdviewer.core.paths import dotted, to_json
from sdviewer.core.tree import value_text

NAME = "info"
HELP = "what is in a checkpoint, from its header alone"


def add_arguments(parser: ArgumentParser) -> None:
    """FILE, --state-dict, --json."""
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--state-dict", metavar="DOTTED", help="only the tensors of this state dict")
    parser.add_argument("--json", action="store_true")


def run(arguments: Namespace) -> int:
    """Print the checkpoint."""
    from sdviewer.formats import open_checkpoint

    with collector_off():
        checkpoint = open_checkpoint(arguments.file, progress=progress_for(arguments, "Reading"))
        chosen = None if arguments.state_dict is None else find_state_dict(checkpoint, arguments.state_dict)
        if arguments.json:
            print_json(as_json(checkpoint, chosen))
        else:
            for line in as_text(checkpoint, chosen):
                print_line(line)
    return 0


def find_state_dict(checkpoint: Checkpoint, name: str) -> int:
    """The index of the state dict whose dotted path is `name`.

    Raises:
        UsageError: there is none, or several; the message lists what there is.
    """
    from sdviewer.repair.state_dicts import choose_state_dict

    return choose_state_dict(checkpoint, name)


def as_json(checkpoint: Checkpoint, chosen: int | None = None) -> dict[str, Any]:
    """The document of `docs/cli.md`."""
    return {
        "path": checkpoint.path,
        "container": checkpoint.container,
        "size": checkpoint.size,
        "byte_order": checkpoint.byte_order,
        "writer": dict(checkpoint.writer),
        "state_dicts": [
            {
                "path": to_json(state_dict.path),
                "dotted": dotted(state_dict.path),
                "role": state_dict.role,
                "tensors": state_dict.tensors,
                "parameters": state_dict.parameters,
                "bytes": state_dict.nbytes,
            }
            for state_dict in checkpoint.state_dicts
        ],
        "tensors": [_tensor(info) for info in checkpoint.tensors if chosen is None or info.state_dict == chosen],
        "values": [
            {**_place(value.path, value.occurrence), "type": value.type, "value": value.value}
            for value in checkpoint.values
        ],
        "objects": [
            {**_place(found.path, found.occurrence), "class": found.cls, "known": found.known}
            for found in checkpoint.objects
        ],
        "storages": [
            {"id": s.id, "nbytes": s.nbytes, "used_bytes": s.used_bytes, "tensors": s.tensors}
            for s in checkpoint.storages.values()
        ],
        "metadata": dict(checkpoint.metadata),
        "problems": [problem._asdict() for problem in checkpoint.problems],
    }


def as_text(checkpoint: Checkpoint, chosen: int | None = None) -> list[str]:
    """The same for people: totals, state dicts, problems, then one line a tensor and a value."""
    head = (
        f"{text.visible(checkpoint.path, 4000)}: {checkpoint.container}, {text.size(checkpoint.size)}, "
        f"{text.plural(len(checkpoint.tensors), 'tensor')}"
    )
    lines = [head]
    for state_dict in checkpoint.state_dicts:
        name = text.visible(dotted(state_dict.path)) or "(root)"
        lines.append(
            f"  {name}: {state_dict.role}, {text.plural(state_dict.tensors, 'tensor')}, "
            f"{text.short_count(state_dict.parameters)} parameters, {text.size(state_dict.nbytes)}"
        )
    for p in checkpoint.problems:
        where = "" if p.where in p.message else f"{text.visible(p.where, 200)}: "
        lines.append(f"  {p.severity}: {where}{text.visible(p.message)} [{p.code}]")
    facts: dict[tuple[tuple[int, ...], str], tuple[str, str, str]] = {}
    rows = []
    for info in checkpoint.tensors:
        if chosen is None or info.state_dict == chosen:
            like = (info.shape, info.dtype)
            if like not in facts:  # 100,000 tensors have a few dozen shapes
                facts[like] = (text.shape(info.shape), info.dtype, text.size(info.nbytes))
            rows.append((text.visible(dotted(info.path), 200), *facts[like]))
    lines += table(rows, right=(3,))
    if chosen is None:
        values = [
            (text.visible(dotted(value.path), 200), value.type.removeprefix("builtins."), value_text(value.value, 80))
            for value in checkpoint.values
        ]
        lines += table(values)
        lines += [f"{text.visible(dotted(o.path), 200)}  {text.visible(o.cls)}, not built" for o in checkpoint.objects]
    return lines


def _place(path: Any, occurrence: int) -> dict[str, Any]:
    place = {"path": to_json(path), "dotted": dotted(path)}
    return {**place, "occurrence": occurrence} if occurrence else place


def _tensor(info: TensorInfo) -> dict[str, Any]:
    row: dict[str, Any] = {
        **_place(info.path, info.occurrence),
        "state_dict": info.state_dict,
        "key": info.key,
        "shape": list(info.shape),
        "dtype": info.dtype,
        "stride": None if info.stride is None else list(info.stride),
        "storage_offset": info.storage_offset,
        "storage": info.storage,
        "nbytes": info.nbytes,
        "requires_grad": info.requires_grad,
        "kind": info.kind,
        "class": info.cls,
        "location": info.location,
        "shard": info.shard,
    }
    if info.quant is not None:
        row["quant"] = dict(info.quant)
    return row
