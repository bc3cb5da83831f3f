"""`sdviewer stats FILE`: numbers of every tensor, read from its bytes."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from sdviewer.cli.info import find_state_dict
from sdviewer.cli.output import print_json, print_line, progress_for, table
from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, TensorInfo
from sdviewer.core.paths import dotted, to_json
from sdviewer.core.progress import Progress
from sdviewer.errors import NoMatch, OpenError, UsageError

NAME = "stats"
HELP = "minimum, maximum, mean and more of the tensors"

FIELDS = ("nan", "posinf", "neginf", "zeros", "min", "max", "mean", "std", "absmean", "l2")
MORE = ("median", "kurtosis", "tiny", "outliers")


def add_arguments(parser: ArgumentParser) -> None:
    """FILE, which keys, whether to hash."""
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--key", action="append", metavar="PATTERN", help="only tensors whose dotted path matches")
    parser.add_argument("--state-dict", metavar="DOTTED", help="only the tensors of this state dict")
    parser.add_argument(
        "--hash", action="store_true", help="also the SHA-256 of the stored elements; checks the stated checksums too"
    )
    parser.add_argument("--json", action="store_true")


def run(arguments: Namespace) -> int:
    """Print a row a tensor."""
    from sdviewer.formats import open_checkpoint

    progress = progress_for(arguments, "Reading")
    checkpoint = open_checkpoint(arguments.file, progress=progress)
    rows, problems = [], []
    checked: set[str | None] = set()
    for index in chosen_tensors(checkpoint, arguments.key, arguments.state_dict):
        row, problem = _measure(checkpoint, index, arguments.hash, progress)
        rows.append(row)
        if problem is not None:
            problems.append(problem)
        storage = checkpoint.tensors[index].storage
        if arguments.hash and storage not in checked:
            checked.add(storage)
            problems += _wrong_checksum(checkpoint, index, progress)
    if arguments.json:
        print_json({"tensors": rows, "problems": problems})
    else:
        for line in _as_text(rows, problems, arguments.hash):
            print_line(line)
    return 0


def chosen_tensors(checkpoint: Checkpoint, patterns: list[str] | None, state_dict: str | None) -> list[int]:
    """Indexes of the tensors that any of `patterns` matches (all without patterns).

    Raises:
        UsageError: a pattern matches nothing, or there is no such state dict.
    """
    from sdviewer.repair.patterns import compile_pattern

    within = None if state_dict is None else find_state_dict(checkpoint, state_dict)
    names = {
        index: dotted(info.path)
        for index, info in enumerate(checkpoint.tensors)
        if within is None or info.state_dict == within
    }
    if not patterns:
        return list(names)
    chosen: set[int] = set()
    for pattern in patterns:
        compiled = compile_pattern(pattern)
        found = {index for index, name in names.items() if compiled.matches(name)}
        if not found:
            error = UsageError(
                f"no tensor matches {text.visible(pattern)}", path=checkpoint.path, code=NoMatch.default_code
            )
            error.remedy = "See sdviewer info FILE for what there is."
            raise error
        chosen |= found
    return sorted(chosen)


def _measure(
    checkpoint: Checkpoint, index: int, with_hash: bool, progress: Progress
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """One row of the answer, and the problem that kept something out of it."""
    from sdviewer.formats import open_storage, tensor_source
    from sdviewer.stats.digest import sha256
    from sdviewer.stats.summary import summary

    info = checkpoint.tensors[index]
    row: dict[str, Any] = {
        "path": to_json(info.path),
        "dotted": dotted(info.path),
        "shape": list(info.shape),
        "dtype": info.dtype,
        "count": info.elements,
        **dict.fromkeys(FIELDS + MORE),
    }
    if with_hash:
        row["sha256"] = None
    if info.occurrence:
        row["occurrence"] = info.occurrence
    try:
        if info.unreadable:
            return row, _problem(info, "unreadable", info.unreadable)
        source = tensor_source(checkpoint, index)
        with open_storage(source) as storage:
            row |= summary(storage, source.layout, progress=progress).to_json()
        if with_hash and source.stored is not None:
            with open_storage(source.stored) as storage:
                digest = sha256(storage, source.stored.layout, progress=progress)
            row["sha256"] = digest.sha256
            if digest.problem:
                return row, _problem(info, digest.problem, "expanded far beyond its stored bytes, not hashed")
    except OpenError as error:
        return row, _problem(info, error.code, error.message)
    return row, None


def _wrong_checksum(checkpoint: Checkpoint, index: int, progress: Progress) -> list[dict[str, Any]]:
    """The problem of a tensor whose storage has another checksum than the container states."""
    from sdviewer.formats import checksum, tensor_source

    try:
        wrong = checksum(tensor_source(checkpoint, index), progress=progress).problem
    except OpenError:
        return []  # told already
    return [_problem(checkpoint.tensors[index], "checksum", wrong)] if wrong else []


def _problem(info: TensorInfo, code: str, message: str) -> dict[str, Any]:
    return {"severity": "warning", "code": code, "message": message, "where": dotted(info.path)}


def _as_text(rows: list[dict[str, Any]], problems: list[dict[str, Any]], with_hash: bool) -> list[str]:
    shown = ("min", "max", "mean", "std", "l2", "zeros", "nan")
    head = ["tensor", "shape", "dtype", *shown] + (["sha256"] if with_hash else [])
    lines = [head]
    for row in rows:
        cells = [text.visible(row["dotted"], 200), text.shape(tuple(row["shape"])), row["dtype"]]
        cells += [text.value(_number(row[name])) for name in shown]
        lines.append(cells + ([row["sha256"] or "–"] if with_hash else []))
    return table(lines, right=tuple(range(3, 3 + len(shown)))) + [
        f"{problem['severity']}: {text.visible(problem['where'], 200)}: {text.visible(problem['message'])}"
        for problem in problems
    ]


def _number(value: Any) -> float | int | None:
    return float(value) if isinstance(value, str) else value
