"""The statistics of all tensors: measured a part at a time, and what a document's tree makes of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdviewer.core.progress import no_progress
from sdviewer.core.sheet import CONSTANT, INF, NAN, NOTED, OUTLIER, ZERO, Sheet
from sdviewer.engine.client import DocumentWorker, Worker
from sdviewer.engine.document import Document
from sdviewer.engine.frames import Answer
from sdviewer.engine.survey import Survey
from sdviewer.engine.tree_numbers import FileNumbers
from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats import open_checkpoint
from sdviewer.stats.table import COLUMNS, none_measured
from tests.core.builders import checkpoint
from tests.engine.conftest import Answered, ask, write_safetensors

ALL = 1 << 62


def odd_tensors() -> dict[str, Any]:
    """Healthy ones, and one of each thing that can be odd about numbers."""
    rng = np.random.default_rng(3)
    tensors: dict[str, Any] = {f"net.{n}.w": rng.normal(size=(6, 4)) for n in range(3)}
    tensors["net.1.w"][2, 2] = np.nan
    tensors["net.2.w"][0, 0] = -np.inf
    tensors["dead.weight"] = np.zeros((3, 3))
    tensors["dead.bias"] = np.zeros(3)
    tensors["same.weight"] = np.full((2, 2), 7.0)
    tensors["far.v"] = rng.normal(size=50)
    tensors["far.v"][9] = 1e12
    tensors["one"] = np.zeros(1)
    return tensors


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    return write_safetensors(tmp_path / "odd.safetensors", odd_tensors())


def begun(path: Path, **more: Any) -> Survey:
    """A survey of a file, in this process."""
    survey = Survey()
    identity = asdict(open_checkpoint(str(path)).identity)
    survey.begin({"path": str(path), "identity": identity, "share": 0, "shares": 1, **more}, no_progress)
    return survey


def measure(survey: Survey, first: tuple[int, ...] = (), seconds: float = 60.0, most: int = ALL) -> Answer:
    return survey.measure({"first": list(first), "seconds": seconds, "most": most}, no_progress)


def indices(answer: Answer) -> list[int]:
    return np.frombuffer(answer.buffers["indices"], np.int64).tolist()


def column(answer: Answer, name: str) -> list[Any]:
    return np.frombuffer(answer.buffers[name], COLUMNS[name]).tolist()


def tell(document: Document, measured: Answer) -> Answer:
    """Let a document have what was measured of its file."""
    identity = asdict(document.checkpoint.identity)
    return document.statistics({"columns": [], "refresh": True, "identity": identity, **measured.buffers}, no_progress)


@pytest.fixture
def document(odd: Path) -> Document:
    """The odd file, open, with all that was measured of it."""
    made = Document()
    made.open({"path": str(odd)}, no_progress)
    tell(made, measure(begun(odd)))
    return made


def row_of(document: Document, key: str) -> int:
    return document.tree.path_text.index(key)


def shown(document: Document, *columns: str, **more: Any) -> dict[str, Any]:
    """The columns of the tree's rows."""
    answer = document.statistics({"columns": list(columns), "refresh": False, **more}, no_progress)
    numbers = {
        name.removeprefix("column "): np.frombuffer(buffer, np.float64)
        for name, buffer in answer.buffers.items()
        if name.startswith("column ") and name != "column storage"
    }
    return {**numbers, "health": np.frombuffer(answer.buffers["health"], np.uint8)}


def filtered(document: Document, wanted: str) -> list[str]:
    """The keys that a filter finds."""
    document.rows({"filter": wanted}, no_progress)
    assert document.shown.matched is not None
    return [document.tree.path_text[row] for row in document.shown.matched]


def test_that_what_is_in_sight_is_measured_before_the_rest_and_each_tensor_once(odd: Path) -> None:
    survey = begun(odd)
    first = measure(survey, (5, 2), seconds=0.0, most=40)
    assert indices(first)[:1] == [5]
    rest = measure(survey, (1,))
    assert indices(rest)[0] == 1
    assert sorted(indices(first) + indices(rest)) == list(range(8))
    assert (rest.body["known"], rest.body["tensors"], rest.body["left"]) == (8, 8, 0)
    assert measure(survey, (0,)).buffers == {}


def test_that_a_tensor_in_sight_that_is_none_of_the_file_is_passed_over(odd: Path) -> None:
    assert indices(measure(begun(odd), (8, 5, 10**6)))[0] == 5


@pytest.mark.filterwarnings("ignore:Sparse")
def test_that_tensors_without_bytes_of_their_own_are_nothing_to_be_read(tmp_path: Path) -> None:
    sparse = torch.sparse_coo_tensor(torch.tensor([[0, 5], [1, 2]]), torch.ones(2), (10**6, 10**6))
    expanded = torch.ones(1, 3).expand(10**6, 3)
    tensors = {"w": torch.ones(3), "s": sparse, "m": torch.empty(10**9, 10**3, device="meta"), "e": expanded}
    torch.save(tensors, tmp_path / "a.pth")
    survey = begun(tmp_path / "a.pth")
    seen: list[float] = []
    params = {"first": [], "seconds": 60.0, "most": 1000}
    answer = survey.measure(params, lambda done, total: seen.append(done / total))
    assert answer.body["known"] == answer.body["tensors"]
    assert answer.body["left"] == 0
    assert answer.body["nbytes"] < 1000
    assert seen == sorted(seen)
    assert seen[-1] == 1


def test_that_two_share_a_file_and_leave_out_what_is_known(odd: Path) -> None:
    known = bytes([1, 0, 0, 0, 0, 0, 1, 0])
    shares = [begun(odd, share=share, shares=2, measured=known) for share in range(2)]
    found = [indices(measure(survey, (2, 3))) for survey in shares]
    assert sorted(found[0] + found[1]) == [1, 2, 3, 4, 5, 7]
    assert len(found[0]) > 1
    assert len(found[1]) > 1


def test_that_a_survey_tells_the_numbers_of_the_file(odd: Path) -> None:
    found = measure(begun(odd))
    keys = [info.key for info in open_checkpoint(str(odd)).tensors]
    at = {keys[index]: place for place, index in enumerate(indices(found))}
    values = odd_tensors()
    assert column(found, "nan")[at["net.1.w"]] == 1
    assert column(found, "neginf")[at["net.2.w"]] == 1
    assert column(found, "zeros")[at["dead.weight"]] == 9
    assert column(found, "std")[at["net.0.w"]] == pytest.approx(values["net.0.w"].std(), rel=1e-6)


def test_that_no_more_bytes_are_read_than_were_allowed_and_larger_tensors_are_passed_over(odd: Path) -> None:
    survey = begun(odd)
    found = measure(survey, most=40)
    assert found.body["spent"] <= 40
    keys = [info.key for info in open_checkpoint(str(odd)).tensors]
    assert {keys[index] for index in indices(found)} == {"dead.weight", "one"}
    assert measure(survey, most=0).body["spent"] == 0


def test_that_a_file_that_changed_is_measured_no_further(odd: Path) -> None:
    survey = begun(odd)
    measure(survey, seconds=0.0, most=40)
    status = odd.stat()
    odd.write_bytes(odd.read_bytes())
    os.utime(odd, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    with pytest.raises(CorruptCheckpoint) as failed:
        measure(survey)
    assert failed.value.code == "file_changed"


def test_that_a_survey_refuses_another_file_than_the_one_that_is_open(odd: Path) -> None:
    identity = {**asdict(open_checkpoint(str(odd)).identity), "size": 1}
    with pytest.raises(CorruptCheckpoint) as failed:
        Survey().begin({"path": str(odd), "identity": identity}, no_progress)
    assert failed.value.code == "file_changed"


def test_that_a_tensor_that_cannot_be_read_does_not_keep_the_others_from_being_measured(odd: Path) -> None:
    raw = odd.read_bytes()
    odd.write_bytes(raw[:-4])  # the last tensor is cut off
    found = measure(begun(odd))
    assert found.body["known"] == found.body["tensors"]
    assert column(found, "state").count(2) == 1


def test_that_numbers_reach_the_rows_and_modules_sum_what_can_be_summed(document: Document) -> None:
    tree = document.tree
    columns = shown(document, "bytes", "mean", "std", "norm", "zeros", "min", "max")
    dead = next(row for row in range(len(tree)) if tree.name[row] == "dead")
    assert columns["zeros"][dead] == 12
    assert columns["bytes"][dead] == 48
    assert np.isnan(columns["std"][dead])
    net = next(row for row in range(len(tree)) if tree.name[row] == "net")
    below = [row_of(document, f"net.{n}.w") for n in range(3)]
    assert columns["norm"][net] == pytest.approx(np.sqrt(sum(columns["norm"][row] ** 2 for row in below)))
    assert columns["min"][net] == min(columns["min"][row] for row in below)
    assert columns["mean"][below[0]] == pytest.approx(odd_tensors()["net.0.w"].mean(), rel=1e-5)


def test_that_a_module_sums_nothing_before_all_of_it_is_measured(odd: Path) -> None:
    made = Document()
    made.open({"path": str(odd)}, no_progress)
    survey = begun(odd)
    keys = [info.key for info in open_checkpoint(str(odd)).tensors]
    part = measure(survey, (keys.index("dead.bias"),), seconds=0.0, most=12)
    assert indices(part) == [keys.index("dead.bias")]
    tell(made, part)
    zeros = shown(made, "zeros")["zeros"]
    dead = next(row for row in range(len(made.tree)) if made.tree.name[row] == "dead")
    assert np.isnan(zeros[dead])
    assert zeros[row_of(made, "dead.bias")] == 3


def test_that_rows_are_marked_and_modules_carry_what_is_worth_being_told(document: Document) -> None:
    health = shown(document)["health"]

    def of(key: str) -> int:
        return int(health[row_of(document, key)])

    assert of("net.0.w") == 0
    assert of("net.1.w") == NAN | NOTED
    assert of("net.2.w") == INF | NOTED
    assert of("dead.weight") == ZERO | CONSTANT | NOTED
    assert of("dead.bias") == ZERO | CONSTANT  # biases begin as zeros
    assert of("same.weight") == CONSTANT | NOTED
    assert of("far.v") == OUTLIER | NOTED
    assert of("one") == 0
    top = document.tree.name.index("model")
    assert health[top] == NAN | INF | ZERO | CONSTANT | OUTLIER | NOTED
    net = document.tree.name.index("net")
    assert health[net] == NAN | INF | NOTED


@pytest.mark.parametrize(
    ("wanted", "keys"),
    [
        ("nan", {"net.1.w"}),
        ("inf", {"net.2.w"}),
        ("zero", {"dead.weight", "dead.bias"}),
        ("constant", {"dead.weight", "dead.bias", "same.weight"}),
        ("outlier", {"far.v"}),
        ("net -nan", {"net.0.w", "net.2.w"}),
        ("zeros:>50%", {"dead.weight", "dead.bias", "one"}),
        ("zeros:>=9", {"dead.weight"}),
        ("mean:7", {"same.weight"}),
        ("max:>1e3", {"far.v"}),
        ("norm:<=0 -one", {"dead.weight", "dead.bias"}),
        ("std:>0.1 w -net.1", {"net.0.w", "net.2.w"}),
        ("inf:1", {"net.2.w"}),
        ("min:<-1e-9 nan:0", {"net.0.w", "net.2.w", "far.v"}),
    ],
)
def test_that_a_filter_finds_tensors_by_their_numbers(document: Document, wanted: str, keys: set[str]) -> None:
    assert set(filtered(document, wanted)) == keys


def test_that_a_filter_by_numbers_finds_more_as_they_come(odd: Path) -> None:
    made = Document()
    made.open({"path": str(odd)}, no_progress)
    assert filtered(made, "zero") == []
    answer = tell(made, measure(begun(odd)))
    assert answer.body["matched"] == 2
    assert [made.tree.name[row] for row in answer.buffers["visible"]] == ["model", "dead", "weight", "bias"]


def test_that_what_was_measured_of_the_file_that_was_there_before_is_left_out(odd: Path) -> None:
    document, measured = Document(), measure(begun(odd))
    document.open({"path": str(odd)}, no_progress)
    before = asdict(document.checkpoint.identity)
    write_safetensors(odd, {"other": np.ones(3)})
    document.open({"path": str(odd)}, no_progress)
    params = {"columns": [], "identity": before, **measured.buffers}
    assert document.statistics(params, no_progress).body["known"] == 0


def test_that_rows_are_sorted_by_numbers_with_what_has_none_last(document: Document) -> None:
    document.rows({"all": "expand"}, no_progress)

    def order(**by: Any) -> list[str]:
        answer = document.rows(by, no_progress)
        rows = answer.buffers["visible"]
        top = document.tree.name.index("model")
        return [document.tree.name[row] for row in rows if document.tree.parent[row] == top]

    natural = order(sort="natural")
    # A module goes by the first below it: the largest of all is far.v.
    assert order(sort="std", descending=True)[0] == "far.v"
    assert order(sort="zeros", descending=True)[0] == "dead"
    assert order(sort="norm", descending=False)[0] in ("dead", "one")
    assert order(sort="natural") == natural


def test_that_an_edited_tree_keeps_the_numbers_of_what_it_keeps_and_has_none_of_what_is_computed(
    document: Document,
) -> None:
    recipe = (
        'format = "sdviewer-recipe/1"\n[[step]]\nop = "prefix"\nadd = "x."\n'
        '[[step]]\nop = "scale"\nkeys = ["x.same.weight"]\nfactor = 2.0\n'
    )
    before = shown(document, "norm")["norm"][row_of(document, "net.0.w")]
    answer = document.edit({"recipe": recipe, "strict": True}, no_progress)
    norm = np.frombuffer(answer.buffers["column norm"], np.float64)
    assert norm[row_of(document, "x.net.0.w")] == before
    assert np.isnan(norm[row_of(document, "x.same.weight")])
    assert np.isnan(norm[document.tree.name.index("x")])
    assert "x.same.weight" not in filtered(document, "constant")


def test_that_findings_stand_among_the_problems_with_their_places(document: Document) -> None:
    from functools import partial

    ask_problems = partial(document.requests["problems"], {"start": 0, "limit": 100}, no_progress)
    found = {(row[1], row[3]): row[2] for row in ask_problems().body["rows"]}
    assert found["nan", "net.1.w"] == "1 of 24 values is NaN"
    assert set(found) == {
        ("nan", "net.1.w"),
        ("infinite", "net.2.w"),
        ("all_zero", "dead.weight"),
        ("constant", "same.weight"),
        ("outlier", "far.v"),
    }


def test_that_a_selection_tells_its_tensors_and_their_sums(document: Document) -> None:
    dead, far = document.tree.name.index("dead"), row_of(document, "far.v")
    page = document.selected({"rows": [dead, row_of(document, "dead.bias"), far], "start": 1, "limit": 5}, no_progress)
    assert page.body["total"] == 3
    assert [row[1] for row in page.body["rows"]] == ["dead.bias", "far.v"]
    assert page.body["rows"][0][9] == 3  # zeros
    totals = document.totals({"rows": [dead, far]}, no_progress).body
    assert totals["zeros"] == 12
    assert totals["norm"] == pytest.approx(1e12, rel=1e-6)
    assert totals["nan"] == 0


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_that_norms_of_any_magnitude_become_those_of_modules_and_selections(tmp_path: Path, scale: float) -> None:
    path = write_safetensors(tmp_path / "a.safetensors", {"m.a": np.full(4, 1.5), "m.b": np.array([4.0])})
    document, survey = Document(), begun(path)
    document.open({"path": str(path)}, no_progress)
    measured = measure(survey)
    l2 = np.frombuffer(measured.buffers["l2"], "f8") * scale
    tell(document, Answer(measured.body, {**measured.buffers, "l2": l2.tobytes()}))
    rows = [row_of(document, key) for key in ("m.a", "m.b")]
    assert shown(document, "norm")["norm"][document.tree.parent[rows[0]]] == pytest.approx(5 * scale)
    assert document.totals({"rows": rows}, no_progress).body["norm"] == pytest.approx(5 * scale)


def test_that_a_selection_without_tensors_has_no_sums(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "epoch": 3, "step": 4}, tmp_path / "a.pth")
    document = Document()
    document.open({"path": str(tmp_path / "a.pth")}, no_progress)
    tell(document, measure(begun(tmp_path / "a.pth")))
    rows = [row for row in range(len(document.tree)) if document.tree.value[row] >= 0]
    totals = document.totals({"rows": rows}, no_progress).body
    assert (totals["values"], totals["norm"], totals["zeros"]) == (2, None, None)


def test_that_what_was_measured_is_there_when_the_same_file_is_opened_again(
    odd: Path, document: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    document.statistics({"columns": [], "keep": True}, no_progress)

    def opened() -> Answer:
        again = Document()
        again.open({"path": str(odd)}, no_progress)
        return again.statistics({"columns": ["zeros"], "kept": True}, no_progress)

    found = opened()
    assert (found.body["known"], found.body["noted"]) == (8, 5)
    assert bytes(found.buffers["measured"]) == bytes([1] * 8)
    assert (
        found.buffers["column zeros"]
        == document.statistics({"columns": ["zeros"]}, no_progress).buffers["column zeros"]
    )
    odd.write_bytes(odd.read_bytes()[:-1] + b"\0")
    assert opened().body["known"] == 0


@pytest.fixture
def workers(odd: Path) -> Iterator[tuple[DocumentWorker, Worker]]:
    document, survey = DocumentWorker(str(odd)), Worker("survey")
    yield document, survey
    document.stop()
    survey.stop()


def test_that_a_survey_process_and_a_document_process_work_together(
    odd: Path, workers: tuple[DocumentWorker, Worker]
) -> None:
    document, survey = workers
    opened = Answered()
    document.open(opened.done, opened.failed)
    body: Mapping[str, Any] = opened.wait().body or {}
    assert ask(survey, "begin", path=str(odd), identity=body["info"]["identity"]).body == {
        "tensors": 8,
        "known": 0,
        "nbytes": body["info"]["state_dicts"][0]["bytes"],
        "left": body["info"]["state_dicts"][0]["bytes"],
        "spent": 0,
        "begun": True,
    }
    measured = ask(survey, "measure", first=[], seconds=10, most=ALL)
    answer = Answered()
    document.request(
        "statistics",
        {"columns": ["storage", "offset"], "refresh": True, "identity": body["info"]["identity"]},
        answer.done,
        answer.failed,
        buffers=measured.buffers,
    )
    told = answer.wait()
    assert told.body == {"known": 8, "tensors": 8, "noted": 5}
    sheet = Sheet.from_buffers(opened.buffers, tuple(body["dtypes"]))
    assert len(told.buffers["health"]) == len(sheet)
    assert b"net.0.w" in bytes(told.buffers["storage text"])


def test_that_of_an_optimizer_only_what_is_not_finite_is_worth_being_told() -> None:
    found = checkpoint({"step": (2, 2), "moment": (4, 4), "broken": (4, 4)}, role="optimizer")
    numbers = FileNumbers(found)
    columns = none_measured(3)
    columns["state"][:] = 1
    columns["count"][:] = [4, 16, 16]
    for name in ("nan", "posinf", "neginf", "zeros"):
        columns[name][:] = 0
    columns["zeros"][0], columns["nan"][2] = 4, 1
    columns["min"][:], columns["max"][:], columns["absmean"][:] = 0.0, [0.0, 1e9, 1.0], [0.0, 1e8, 0.5]
    indices = np.arange(3, dtype=np.int64)
    numbers.put({name: column.tobytes() for name, column in {"indices": indices, **columns}.items()})
    assert numbers.marks.tolist() == [ZERO, 0, NAN | NOTED]
    assert [(problem.code, problem.where) for problem in numbers.findings()] == [("nan", "broken")]
