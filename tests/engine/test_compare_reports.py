"""Reports of a comparison: all of it as a table, the gist in a few lines, a page that cannot do harm."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from sdviewer.core.checkpoint import ValueInfo
from sdviewer.core.value_diff import value_differences
from sdviewer.engine.compare_page import MOST_ROWS, as_html
from sdviewer.engine.compare_reports import (
    CompareReport,
    PairProblem,
    ReportedPair,
    as_csv,
    as_json,
    as_lines,
    as_markdown,
    unchanged_parts,
)
from sdviewer.stats.pair_sums import Tolerance
from sdviewer.stats.pair_table import PairTable, none_compared
from sdviewer.stats.pairs import compare, write_row
from sdviewer.stats.table import UNREADABLE
from tests.core.builders import checkpoint
from tests.stats.storages import array

HOSTILE = '<img src=x onerror=alert(1)>\u202e"|`'


def report_of(a: dict[str, np.ndarray], b: dict[str, np.ndarray], **more: Any) -> CompareReport:
    """Two state dicts paired by key and compared."""
    made_a, made_b = (checkpoint({key: values.shape for key, values in side.items()}) for side in (a, b))
    infos_a, infos_b = ({info.key: info for info in made.tensors} for made in (made_a, made_b))
    keys = [*a, *(key for key in b if key not in a)]
    pairs = [
        ReportedPair(key if key in a else None, infos_a.get(key), key if key in b else None, infos_b.get(key))
        for key in keys
    ]
    statuses = [
        "only_b" if key not in a else "only_a" if key not in b else "shape" if a[key].shape != b[key].shape else ""
        for key in keys
    ]
    table = PairTable(statuses)
    for at, (key, status) in enumerate(zip(keys, statuses, strict=True)):
        if not status:
            columns = none_compared(1)
            write_row(columns, 0, compare(*array(a[key]), *array(b[key]), Tolerance(1e-6)), dtypes_differ=False)
            table.put([at], columns)
    return CompareReport(
        replace(made_a, path="/runs/one/model.pth"), replace(made_b, path="/runs/two/model.pth"), pairs, table, **more
    )


@pytest.fixture
def report() -> CompareReport:
    random = np.random.default_rng(4)
    a = {
        key: random.normal(size=(3, 4)).astype(np.float32)
        for key in ("stem.w", "stem.b", "blocks.0.w", "blocks.0.b", "blocks.1.w", "head.w", "old.w")
    }
    b = {key: values.copy() for key, values in a.items() if key != "old.w"}
    b["blocks.1.w"][1, 2] += 10
    b["head.w"] = np.ones(5, np.float32)
    b[HOSTILE] = np.ones(2, np.float32)
    values = value_differences(
        [ValueInfo(("epoch",), "builtins.int", 1)],
        [ValueInfo(("epoch",), "builtins.int", 42), ValueInfo((HOSTILE,), "builtins.str", HOSTILE)],
    )
    return report_of(a, b, values=values)


def test_that_a_few_lines_name_what_changed_what_did_not_and_values(report: CompareReport) -> None:
    lines = as_lines(report)
    assert lines[0] == (
        "one/model.pth → two/model.pth: "
        "4 identical, 1 changed, 1 shape differs, 1 only in A, 1 only in B, 2 values changed"
    )
    assert lines[2].split()[0] == "blocks.1.w"
    assert lines[2].endswith("%")
    assert lines[3] == "Unchanged: stem, blocks.0"
    assert lines[4] == "epoch: 1 → 42"
    assert lines[5].startswith("1 value only in B: <img")
    assert "\u202e" not in "\n".join(lines)


def test_that_nothing_is_called_unchanged_where_all_is(report: CompareReport) -> None:
    same = report_of({"a.w": np.ones(2), "b.w": np.ones(2)}, {"a.w": np.ones(2), "b.w": np.ones(2)})
    assert unchanged_parts(same) == []
    assert as_lines(same) == ["one/model.pth → two/model.pth: 2 identical"]


def test_that_markdown_is_a_table_whose_cells_hold_whatever_a_key_holds(report: CompareReport) -> None:
    odd = report_of({HOSTILE: np.ones(2, np.float32)}, {HOSTILE: np.full(2, 3, np.float32)})
    for made in (report, odd):
        rows = [line for line in as_markdown(made).splitlines() if line.startswith("|")]
        assert len(rows) == 3
        assert {row.replace("\\|", "").count("|") for row in rows} == {5}
    assert "| 200.00 % | 1 | 2 |" in as_markdown(odd)


def test_that_the_table_has_a_line_a_pair_and_no_formula(report: CompareReport) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(report))))
    assert [row["status"] for row in rows] == [
        "identical", "identical", "identical", "identical", "changed", "shape", "only_a", "only_b",
    ]  # fmt: skip
    changed = rows[4]
    assert (changed["key_a"], changed["shape_a"], changed["max_at"]) == ("blocks.1.w", "3x4", "1x2")
    assert float(changed["max_abs"]) == report.numbers(4)["max_abs"]
    assert rows[5]["rel_l2"] == ""
    formula = report_of({"=1+1": np.ones(1)}, {"=1+1": np.ones(1)})
    assert next(csv.DictReader(io.StringIO(as_csv(formula))))["key_a"] == "'=1+1"


class Page(HTMLParser):
    """All tags with their attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_that_a_page_needs_nothing_else_and_runs_nothing(report: CompareReport) -> None:
    made = replace(report, problems=[PairProblem(0, "no_storage", HOSTILE)], a=replace(report.a, path=f"/x/{HOSTILE}"))
    page = Page(as_html(made))
    assert {tag for tag, _ in page.tags} <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "br", "b", "span", "code", "table", "tr",
        "th", "td",
    }  # fmt: skip
    assert not [attrs for _, attrs in page.tags if attrs.keys() & {"src", "href", "onerror", "onclick"}]
    assert page.text.count("<img src=x onerror=alert(1)>") >= 4
    assert "\u202e" not in page.text
    assert "default-src 'none'" in as_html(made)


def test_that_a_page_shows_every_pair_with_its_status_and_numbers(report: CompareReport) -> None:
    page = Page(as_html(report))
    classes = [attrs["class"] for tag, attrs in page.tags if tag == "tr" and attrs.get("class")]
    assert classes == ["identical"] * 4 + ["changed", "shape", "only_a", "only_b"]
    assert "3×4 → 5" in page.text
    assert "at [1, 2]" in page.text
    assert "epoch: 1 → 42" in page.text


def test_that_a_page_leaves_out_what_is_the_same_where_there_is_too_much() -> None:
    keys = [f"k{i}" for i in range(MOST_ROWS + 3)]
    made = checkpoint(dict.fromkeys(keys, (2,)))
    pairs = [ReportedPair(info.key, info, info.key, info) for info in made.tensors]
    table = PairTable(["only_a" if i == MOST_ROWS + 2 else "" for i in range(len(keys))])
    page = as_html(CompareReport(made, made, pairs, table, keys_only=True))
    assert "3 more pairs are not shown here" in page
    assert f"k{MOST_ROWS + 2}<" in page


def test_that_what_is_not_compared_yet_has_no_status_and_what_is_unreadable_is_not_the_same() -> None:
    made = checkpoint({"a": (2,), "b": (2,)})
    pairs = [ReportedPair(info.key, info, info.key, info) for info in made.tensors]
    table = PairTable(["", ""])
    table["state"][1] = UNREADABLE
    document = as_json(CompareReport(made, made, pairs, table))
    assert [pair["status"] for pair in document["pairs"]] == [None, "changed"]
    assert document["summary"]["changed"] == 1
    assert json.loads(json.dumps(document)) == document
