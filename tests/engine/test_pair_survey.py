"""The pairs of a comparison: measured a part at a time, with the recipe that A is compared under."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdviewer.core.pairing import Pairing, pair_up, side_of_file, statuses
from sdviewer.core.progress import no_progress
from sdviewer.engine.client import Worker
from sdviewer.engine.comparing import Tensors, compare_pairs, contents_of
from sdviewer.engine.frames import Answer
from sdviewer.engine.pair_survey import PairSurvey
from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats import open_checkpoint
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import parse_recipe
from sdviewer.stats.pair_table import COLUMNS, NOTHING, STATUSES, PairTable
from sdviewer.stats.table import KNOWN, UNREADABLE
from tests.engine.conftest import Answered, ask, write_safetensors

ALL = 1 << 62
SCALE = (
    'format = "sdviewer-recipe/1"\n[[step]]\nop = "scale"\nkeys = ["b.w"]\nfactor = 2.0\n'
    '[[step]]\nop = "prefix"\nadd = "m."\n'
)


def tensors() -> dict[str, Any]:
    random = np.random.default_rng(2)
    return {f"{name}.w": random.normal(size=(5, 4)) for name in "abcd"}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """B differs in `b.w` and in the shape of `c.w`, lacks `d.w` and has `e.w`."""
    a = write_safetensors(tmp_path / "a.safetensors", tensors())
    other = tensors()
    other["b.w"][1, 2] += 1
    other["c.w"] = np.ones(3)
    other["e.w"] = other.pop("d.w")
    return a, write_safetensors(tmp_path / "b.safetensors", other)


def paired(a: Path, b: Path) -> tuple[list[list[int]], list[str]]:
    """Pairs of tensor indexes, and what the headers say of them."""
    side_a, side_b = (side_of_file(open_checkpoint(str(path))) for path in (a, b))
    pairing = pair_up(side_a, side_b)
    pairs = [[side_a.tensors[i] if i >= 0 else -1, side_b.tensors[j] if j >= 0 else -1] for i, j, _ in pairing.pairs]
    return pairs, statuses(side_a, side_b, pairing.pairs)


def request(a: Path, b: Path, pairs: list[list[int]], **more: Any) -> dict[str, Any]:
    def which(path: Path) -> dict[str, Any]:
        return {"path": str(path), "identity": asdict(open_checkpoint(str(path)).identity)}

    return {"a": which(a), "b": which(b), "pairs": pairs, **more}


def begun(files: tuple[Path, Path], **more: Any) -> PairSurvey:
    survey = PairSurvey()
    survey.begin(request(*files, paired(*files)[0], **more), no_progress)
    return survey


def measure(survey: PairSurvey, first: tuple[int, ...] = (), seconds: float = 60.0, most: int = ALL) -> Answer:
    return survey.measure({"first": list(first), "seconds": seconds, "most": most}, no_progress)


def table(files: tuple[Path, Path], *answers: Answer) -> PairTable:
    """What a reader of the answers knows."""
    made = PairTable(paired(*files)[1])
    for answer in answers:
        columns = {name: np.frombuffer(answer.buffers[name], kind) for name, kind in COLUMNS.items()}
        made.put(np.frombuffer(answer.buffers["indices"], np.int64), columns)
    return made


def words(made: PairTable) -> list[str]:
    return [STATUSES[code] for code in made["status"]]


def test_that_pairs_are_measured_once_and_what_has_nothing_to_measure_is_known(files: tuple[Path, Path]) -> None:
    survey = begun(files)
    first = measure(survey, (1, 2, 99), seconds=0.0, most=160)
    assert np.frombuffer(first.buffers["indices"], np.int64).tolist() == [1]
    rest = measure(survey)
    assert np.frombuffer(rest.buffers["indices"], np.int64).tolist() == [0]
    assert (rest.body["known"], rest.body["tensors"], rest.body["left"], rest.body["nbytes"]) == (5, 5, 0, 320)
    assert measure(survey).buffers == {}
    made = table(files, first, rest)
    assert words(made) == ["identical", "changed", "shape", "only_a", "only_b"]
    assert made["state"].tolist() == [KNOWN, KNOWN, NOTHING, NOTHING, NOTHING]
    assert (made["changed"][1], made["max_at"][1]) == (1, 6)
    assert made["max_abs"][1] == pytest.approx(1)


def test_that_progress_is_that_of_the_bytes_of_both_sides(files: tuple[Path, Path]) -> None:
    seen: list[tuple[int, int]] = []
    begun(files).measure({"first": [], "seconds": 60.0, "most": ALL}, lambda *told: seen.append(told))
    assert seen == sorted(seen)
    assert seen[-1] == (320, 320)


def test_that_a_tolerance_and_what_is_known_already_are_heeded(files: tuple[Path, Path]) -> None:
    found = measure(begun(files, atol=2.0, measured=bytes([1, 0, 0, 0, 0])))
    assert np.frombuffer(found.buffers["indices"], np.int64).tolist() == [1]
    assert words(table(files, found))[1] == "close"
    assert words(table(files, measure(begun(files, rtol=1e-9))))[:2] == ["identical", "changed"]


def test_that_two_processes_share_the_pairs(files: tuple[Path, Path]) -> None:
    shares = [measure(begun(files, share=share, shares=2)) for share in range(2)]
    assert words(table(files, *shares))[:2] == ["identical", "changed"]
    assert all(len(share.buffers["indices"]) == 8 for share in shares)


def test_that_a_is_compared_as_its_recipe_makes_it(files: tuple[Path, Path]) -> None:
    a, _ = files
    checkpoint = open_checkpoint(str(a))
    made = Tensors(checkpoint, make_plan(parse_recipe(SCALE), checkpoint))
    (computed,) = [index for index in range(len(made.checkpoint.tensors)) if made.computes(index)]
    pairs = request(a, a, [[computed, 1], [0, 0]])
    pairs["a"]["recipe"] = SCALE
    survey = PairSurvey()
    survey.begin(pairs, no_progress)
    answer = measure(survey)
    rel = np.frombuffer(answer.buffers["rel_l2"])
    assert rel.tolist() == [pytest.approx(0.5), 0]


def test_that_a_file_that_changed_on_either_side_is_measured_no_further(files: tuple[Path, Path]) -> None:
    for path in files:
        survey = begun(files)
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
        with pytest.raises(CorruptCheckpoint) as failed:
            measure(survey)
        assert failed.value.code == "file_changed"


def test_that_another_file_than_the_one_that_is_open_is_refused(files: tuple[Path, Path]) -> None:
    params = request(*files, [])
    params["b"]["identity"]["size"] += 1
    with pytest.raises(CorruptCheckpoint) as failed:
        PairSurvey().begin(params, no_progress)
    assert failed.value.code == "file_changed"


def test_that_a_pair_that_cannot_be_read_says_so_and_keeps_no_other_from_being_measured(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, o=np.array([{}], object), w=np.ones(2))
    side = Tensors(open_checkpoint(str(path)))
    columns, refused = compare_pairs(side, side, [(0, 0), (1, 1)])
    assert columns["state"].tolist() == [UNREADABLE, KNOWN]
    assert [(one.place, one.error.code) for one in refused] == [(0, "no_storage")]


def test_that_equal_contents_are_found_under_another_name(files: tuple[Path, Path]) -> None:
    sides = [Tensors(open_checkpoint(str(path))) for path in files]
    lists = [side_of_file(side.checkpoint) for side in sides]
    contents = contents_of(sides[0], lists[0], sides[1], lists[1])
    found: Pairing = pair_up(*lists, "auto", contents=contents)
    assert [(lists[0].keys[i], lists[1].keys[j]) for i, j, by in found.pairs if by == "content"] == [("d.w", "e.w")]


def test_that_the_service_answers_as_a_process(files: tuple[Path, Path]) -> None:
    worker = Worker("pair_survey")
    try:
        begin = ask(worker, "begin", **request(*files, paired(*files)[0]))
        assert begin.failure is None
        found: Answered = ask(worker, "measure", first=[1], seconds=60.0, most=ALL)
        assert found.body is not None
        assert found.body["known"] == 5
    finally:
        worker.stop()
