"""What a comparison found, to keep and to hand on: JSON and CSV of all pairs, a few lines for a commit message.

The stand-alone page is in `compare_page`. Nothing here reads a file; all text that came out of one is made visible.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, TensorInfo
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.pairing import DEEPEST, By
from sdviewer.core.paths import to_json
from sdviewer.core.tree import value_text
from sdviewer.core.value_diff import ValueDifference
from sdviewer.stats.pair_table import CASTS, STATUSES, PairTable
from sdviewer.stats.table import KNOWN, UNREADABLE

NUMBERS = ("max_abs", "mean_abs", "rel_l2", "cosine", "changed_share")

TITLES: Mapping[str, str] = {
    "identical": "identical",
    "close": "close",
    "changed": "changed",
    "shape": "shape differs",
    "dtype": "type differs",
    "only_a": "only in A",
    "only_b": "only in B",
}
"""What people read for each status."""

CAST_WORDS: Mapping[str, str] = {"equal": "equal values", "rounded_b": "B is A rounded", "rounded_a": "A is B rounded"}

MOST_NAMED = 10
"""Pairs that the few lines name, those that changed most; and parts that did not change."""

MOST_VALUES = 20
"""Values that they name."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class ReportedPair(NamedTuple):
    """One pair: key and tensor of each side, None where there is none, and what brought it together."""

    key_a: str | None
    a: TensorInfo | None
    key_b: str | None
    b: TensorInfo | None
    by: By = ""

    @property
    def key(self) -> str:
        """A's key, else B's."""
        return (self.key_b or "") if self.key_a is None else self.key_a


class PairProblem(NamedTuple):
    """Why a pair could not be compared."""

    pair: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class CompareReport:
    """All that was found. `table` is about `pairs`; with `keys_only` no bytes were looked at."""

    a: Checkpoint
    b: Checkpoint
    pairs: Sequence[ReportedPair]
    table: PairTable
    values: Sequence[ValueDifference] = ()
    problems: Sequence[PairProblem] = ()
    keys_only: bool = False

    def statuses(self) -> list[str]:
        """The word of each pair, "" where it was not compared yet; what cannot be read is not known to be the same."""
        words = [STATUSES[code] for code in self.table["status"].tolist()]
        if self.keys_only:
            return [word or "identical" for word in words]
        return [
            "changed" if state == UNREADABLE and not word else word
            for word, state in zip(words, self.table["state"].tolist(), strict=True)
        ]

    def summary(self) -> dict[str, int]:
        """The counts of `docs/cli.md`."""
        counts = Counter(self.statuses())
        return {status: counts[status] for status in TITLES} | {"values_changed": len(self.values)}

    def numbers(self, pair: int) -> dict[str, Any]:
        """The metrics of a pair by their names in `docs/cli.md`, all None where it was not measured."""
        names = ("max_abs", "max_at", *NUMBERS[1:], "nonfinite_differs", "sign_flips", "cast")
        table = self.table
        if table["state"][pair] != KNOWN:
            return dict.fromkeys(names)
        found: dict[str, Any] = dict.fromkeys(names)
        found |= {name: None if math.isnan(x := float(table[name][pair])) else x for name in NUMBERS}
        flips = int(table["sign_flips"][pair])
        return found | {
            "max_at": _index(self.pairs[pair].a, int(table["max_at"][pair])),
            "nonfinite_differs": bool(table["nonfinite_differs"][pair]),
            "sign_flips": None if flips < 0 else flips,
            "cast": CASTS[table["cast"][pair]] or None,
        }

    def most_changed(self, most: int = MOST_NAMED) -> list[int]:
        """The pairs that changed, the largest relative difference first; counters tell nothing and go last."""
        change = self.table["rel_l2"]
        known = np.flatnonzero(change > 0)
        order: list[int] = known[np.argsort(-change[known], kind="stable")].tolist()
        return sorted(order, key=lambda at: _counts(self.pairs[at].a))[:most]


def _counts(info: TensorInfo | None) -> bool:
    """Whether a tensor counts something: `num_batches_tracked`, `step`."""
    return info is not None and not info.shape and info.dtype in DTYPES and DTYPES[info.dtype].kind in ("int", "uint")


def _index(info: TensorInfo | None, at: int) -> list[int] | None:
    """A position in row-major order as an index; where values share a byte, their own number in the last dimension."""
    if at < 0 or info is None:
        return None
    shape = list(info.shape)
    if shape and info.dtype in DTYPES:
        shape[-1] *= DTYPES[info.dtype].per_byte
    index = []
    for size in reversed(shape):
        at, place = divmod(at, size)
        index.append(place)
    return index[::-1]


def as_json(report: CompareReport) -> dict[str, Any]:
    """The document of `docs/cli.md`."""
    return {
        "summary": report.summary(),
        "keys_only": report.keys_only,
        "pairs": [
            _row(pair, word or None, report.numbers(at))
            for at, (pair, word) in enumerate(zip(report.pairs, report.statuses(), strict=True))
        ],
        "values": [
            {
                "dotted": one.dotted,
                "a": None if one.a is None else one.a.value,
                "b": None if one.b is None else one.b.value,
                "only": _only(one),
            }
            for one in report.values
        ],
        "problems": [
            {"severity": "warning", "code": code, "message": message, "where": report.pairs[pair].key}
            for pair, code, message in report.problems
        ],
    }


def _row(pair: ReportedPair, status: str | None, numbers: dict[str, Any]) -> dict[str, Any]:
    a, b = pair.a, pair.b
    return {
        "a": None if a is None else to_json(a.path),
        "b": None if b is None else to_json(b.path),
        "key_a": pair.key_a,
        "key_b": pair.key_b,
        "status": status,
        "shape_a": None if a is None else list(a.shape),
        "shape_b": None if b is None else list(b.shape),
        "dtype_a": None if a is None else a.dtype,
        "dtype_b": None if b is None else b.dtype,
        **numbers,
        "matched_by": pair.by or None,
    }


def _only(one: ValueDifference) -> str | None:
    return "b" if one.a is None else "a" if one.b is None else None


def as_csv(report: CompareReport) -> str:
    """A line a pair, with a head: the fields of the JSON document but the paths."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for at, (pair, word) in enumerate(zip(report.pairs, report.statuses(), strict=True)):
        row = _row(pair, word or None, report.numbers(at))
        cells = {name: value for name, value in row.items() if name not in ("a", "b")}
        if not at:
            writer.writerow(cells)
        writer.writerow([_cell(value) for value in cells.values()])
    return out.getvalue()


def _cell(value: Any) -> str:
    """A value as a table has it: nothing for None; text that a spreadsheet would take for a formula begins with '."""
    if value is None:
        return ""
    if isinstance(value, str):
        shown = text.visible(value, 10_000)
        return f"'{shown}" if shown.startswith(_FORMULA) else shown
    if isinstance(value, list):
        return "x".join(map(str, value))
    return repr(value) if isinstance(value, float) else str(value).lower()


def counts_in_words(report: CompareReport) -> str:
    """`147 changed, 2 identical, 1 only in B, 2 values changed`."""
    summary = report.summary()
    words = [f"{summary[status]:,} {title}" for status, title in TITLES.items() if summary[status]]
    if report.keys_only and summary["identical"]:
        words[0] = f"{summary['identical']:,} equal in key, shape and type"
    if summary["values_changed"]:
        words.append(f"{text.plural(summary['values_changed'], 'value')} changed")
    return ", ".join(words) or "nothing to compare"


def value_in_words(one: ValueDifference) -> str:
    """`epoch: 1 → 42`, `note: only in A: x`."""
    name = text.visible(one.dotted, 200)
    a, b = ("" if info is None else value_text(info.value, 80) for info in (one.a, one.b))
    only = _only(one)
    return f"{name}: only in {only.upper()}: {b if only == 'b' else a}" if only else f"{name}: {a} → {b}"


def values_in_words(report: CompareReport) -> list[str]:
    """The values of both sides that differ, in a few lines, and how many only one side has."""
    both = [one for one in report.values if _only(one) is None]
    lines = [value_in_words(one) for one in both[:MOST_VALUES]]
    if len(both) > MOST_VALUES:
        lines.append(f"{len(both) - MOST_VALUES:,} more values changed")
    for side in "ab":
        some = [one for one in report.values if _only(one) == side]
        if some:
            named = ", ".join([text.visible(one.dotted, 60) for one in some[:3]]) + (", …" if len(some) > 3 else "")
            lines.append(f"{text.plural(len(some), 'value')} only in {side.upper()}: {named}")
    return lines


def change_in_words(numbers: Mapping[str, Any]) -> str:
    """How far a pair is apart: `13.49 %`, `from zero`; "" where nobody knows."""
    share = numbers["rel_l2"]
    return "" if share is None else "from zero" if math.isinf(share) else text.percent(share)


def file_names(report: CompareReport) -> tuple[str, str]:
    """The names of both files, with as much of their folders as tells them apart."""
    a, b = Path(report.a.path), Path(report.b.path)
    if a.name == b.name and a.parent.name != b.parent.name:
        return text.visible(f"{a.parent.name}/{a.name}"), text.visible(f"{b.parent.name}/{b.name}")
    return text.visible(a.name), text.visible(b.name)


def as_lines(report: CompareReport) -> list[str]:
    """A few lines of text: what differs, what changed most, what did not change at all, which values."""
    a, b = file_names(report)
    lines = [f"{a} → {b}: {counts_in_words(report)}"]
    named = [
        f"  {text.visible(report.pairs[at].key, 200)}  {change_in_words(report.numbers(at))}"
        for at in report.most_changed()
    ]
    if named:
        lines += ["Changed most (‖B − A‖ / ‖A‖):", *named]
    frozen = unchanged_parts(report)
    if frozen:
        lines.append(f"Unchanged: {', '.join(frozen)}")
    return lines + values_in_words(report)


def as_markdown(report: CompareReport) -> str:
    """The same as Markdown."""
    a, b = file_names(report)
    lines = [f"**{_marked(a)} → {_marked(b)}**: {counts_in_words(report)}", ""]
    changed = report.most_changed()
    if changed:
        lines += ["| changed most | ‖B − A‖ / ‖A‖ | cosine | max \\|B − A\\| |", "|---|---:|---:|---:|"]
        for at in changed:
            numbers = report.numbers(at)
            cosine = "" if numbers["cosine"] is None else text.cosine(numbers["cosine"])
            key = _marked(text.visible(report.pairs[at].key, 200))
            lines.append(f"| {key} | {change_in_words(numbers)} | {cosine} | {text.value(numbers['max_abs'])} |")
        lines.append("")
    frozen = unchanged_parts(report)
    if frozen:
        lines += [f"Unchanged: {', '.join(map(_marked, frozen))}", ""]
    lines += [f"- {_marked(words)}" for words in values_in_words(report)]
    return "\n".join(lines).rstrip() + "\n"


def _marked(words: str) -> str:
    """Text as code of Markdown, whatever it holds; a bar would end a cell of a table."""
    ticks = "`"
    while ticks in words:
        ticks += "`"
    inside = words.replace("|", "\\|")
    return f"{ticks} {inside} {ticks}" if len(ticks) > 1 else f"`{inside}`"


def unchanged_parts(report: CompareReport, most: int = MOST_NAMED) -> list[str]:
    """The outermost modules of A of which nothing changed, where something else did."""
    alike: dict[str, bool] = {}
    words = report.statuses()
    if all(word in ("identical", "close") for word in words):
        return []
    for pair, word in zip(report.pairs, words, strict=True):
        if pair.key_a is None:
            continue
        same = word in ("identical", "close")
        at = pair.key_a.find(".")
        for _ in range(DEEPEST):
            if at < 0:
                break
            module = pair.key_a[:at]
            alike[module] = alike.get(module, True) and same
            at = pair.key_a.find(".", at + 1)
    outermost = [module for module, same in alike.items() if same and not alike.get(module.rpartition(".")[0], False)]
    shown = [text.visible(module, 80) for module in outermost[:most]]
    return shown + ([f"{len(outermost) - most:,} more"] if len(outermost) > most else [])
