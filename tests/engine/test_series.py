"""A run of a few files: what is read of their headers, and what is measured of them step by step."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdviewer.core.progress import no_progress
from sdviewer.engine.client import Worker
from sdviewer.engine.series import Series
from sdviewer.engine.series_survey import SeriesSurvey
from sdviewer.errors import CorruptCheckpoint, OpenError
from tests.engine.conftest import Answered, write_safetensors

STEPS = 5


def weights(step: int) -> dict[str, torch.Tensor]:
    """Frozen, growing by a tenth a step, from step 3 on a block more and another head, from step 4 on NaN."""
    torch.manual_seed(0)
    made = {
        "stem.weight": torch.ones(3, 3),
        "stem.running_mean": torch.full((3,), 1e6 * (step + 1)),
        "stem.num_batches_tracked": torch.tensor(1000 * step),
        "blocks.0.weight": torch.randn(4, 4) * 1.1**step,
        "blocks.1.weight": torch.randn(4, 4) * 3.0**step,
    }
    if step >= 3:
        made["blocks.2.weight"] = torch.randn(4, 4)
    made["head.weight"] = torch.full((2 if step < 3 else 5, 4), 0.5)
    if step >= 4:
        made["blocks.0.weight"][1, 2] = float("nan")
    return made


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for step in range(STEPS):
        file = {
            "epoch": step,
            "loss": 1 / (step + 1) if step < 4 else float("nan"),
            "best_acc1": torch.tensor(min(step, 3) * 10.0),
            "state_dict": weights(step),
            "optimizer": {"state": {0: {"exp_avg": torch.zeros(4, 4)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        }
        torch.save(file, tmp_path / f"net_{step}.pth")
    return tmp_path


def opened(*paths: Path) -> Series:
    """A series all of whose headers are read."""
    series = Series()
    state = series.open({"paths": [str(path) for path in paths]}, no_progress).body
    while state["read"] < state["files"]:
        state = series.read({"seconds": 0}, no_progress).body
    return series


def measured(series: Series, what: str = "norm") -> Series:
    """With all numbers."""
    survey = SeriesSurvey()
    while True:
        told = series.todo({"what": what, "first": []}, no_progress)
        work = told.body["work"]
        if work is None:
            return series
        found = survey.requests[work["name"]]({**work["params"], **told.buffers}, no_progress)
        series.note({"key": work["key"], "body": found.body, **found.buffers}, no_progress)


def answer(series: Series, name: str, **params: Any) -> Mapping[str, Any]:
    return series.requests[name](params, no_progress).body


def lines(series: Series, what: str = "norm") -> dict[str, list[float]]:
    told = series.lines({"what": what, "points": 100}, no_progress)
    table = np.frombuffer(told.buffers["values"]).reshape(len(told.body["names"]), -1)
    return dict(zip(told.body["names"], table.tolist(), strict=True))


def test_that_headers_are_read_a_part_at_a_time_in_the_order_of_the_steps(run: Path) -> None:
    series = Series()
    state = series.open({"paths": [str(run)]}, no_progress).body
    assert (state["files"], state["read"], state["name"]) == (STEPS, 0, run.name)
    state = series.read({"seconds": 0}, no_progress).body
    assert state["read"] == 1
    rows = answer(series, "files")["rows"]
    assert [row[7] for row in rows] == ["read", "waiting", "waiting", "waiting", "waiting"]


def test_that_keys_come_and_change_where_they_do_without_an_optimizer(run: Path) -> None:
    told = answer(opened(run), "keys", changed=True, most=100)
    rows = {row[0]: row for row in told["rows"]}
    assert rows["blocks.2"][2] == [[3, 5, 0]]
    assert rows["head"][2:] == [[[0, 3, 0], [3, 5, 1]], ["2×4 float32", "5×4 float32"]]
    assert set(rows) == {"blocks.2", "head"}
    assert told["keys"] == 7


def test_that_metrics_are_found_in_values_and_in_tensors_and_the_best_is_marked(run: Path) -> None:
    series = opened(run)
    told = answer(series, "metrics")
    assert told["chosen"] == "best_acc1"
    assert (told["best"], told["words"]) == (3, "first with the highest best_acc1")
    assert told["values"] == [0.0, 10.0, 20.0, 30.0, 30.0]
    loss = answer(series, "metrics", metric="loss")
    assert (loss["best"], loss["rule"], loss["odd"]) == (3, "lowest", [4])
    row = answer(series, "files", metric="loss")["rows"][3]
    assert ["best", "lowest loss"] in row[6]


def test_that_text_of_safetensors_that_is_a_number_is_a_metric(tmp_path: Path) -> None:
    for step in (1, 2):
        path = write_safetensors(tmp_path / f"step{step}.safetensors", {"w": np.ones(2)})
        raw = path.read_bytes()
        size = int.from_bytes(raw[:8], "little")
        head = raw[8 : 8 + size].rstrip()[:-1] + b',"__metadata__":{"val_loss":"0.%d","by":"me"}}' % step
        path.write_bytes(len(head).to_bytes(8, "little") + head + raw[8 + size :])
    assert answer(opened(tmp_path), "metrics")["chosen"] == "val_loss"


def test_that_what_a_trainer_logged_beside_its_checkpoints_is_a_metric(tmp_path: Path) -> None:
    """As transformers writes it: the files themselves hold nothing but weights."""
    for step, accuracy in ((500, 0.5), (1000, 0.75), (1500, 0.625)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        write_safetensors(folder / "model.safetensors", {"a.w": np.ones(2), "b.w": np.ones(2)})
        state = {"global_step": step, "log_history": [{"step": step, "eval_accuracy": accuracy}]}
        (folder / "trainer_state.json").write_text(json.dumps(state))
    told = answer(opened(tmp_path), "metrics")
    assert (told["chosen"], told["values"], told["best"]) == ("eval_accuracy", [0.5, 0.75, 0.625], 1)


def test_that_the_norm_of_a_module_is_that_of_its_weights_alone(run: Path) -> None:
    """Running statistics and counters of a norm layer are larger than all weights."""
    found = lines(measured(opened(run)))
    assert found["stem"] == pytest.approx([3.0] * STEPS)
    expected = [float(torch.linalg.norm(weights(step)["blocks.1.weight"])) for step in range(STEPS)]
    assert found["blocks.1"] == pytest.approx(expected)
    assert [math.isnan(value) for value in found["blocks.2"]] == [True, True, True, False, False]


def test_that_nan_is_told_with_its_first_step_and_its_key(run: Path) -> None:
    series = measured(opened(run))
    told = answer(series, "lines", what="norm", points=100)
    assert told["onset"] == [4, "blocks.0.weight"]
    assert ["odd", "1 with NaN, Inf"] in answer(series, "files")["rows"][4][6]


def test_that_a_module_that_is_all_nan_has_no_norm(tmp_path: Path) -> None:
    for step in (1, 2):
        value = np.full(4, np.nan if step == 2 else 1.0)
        write_safetensors(tmp_path / f"e{step}.safetensors", {"a.w": value, "b.w": np.ones(4)})
    found = lines(measured(opened(tmp_path)))
    assert found["a"][0] == 2.0
    assert math.isnan(found["a"][1])


def test_that_the_change_is_relative_to_the_file_before_and_to_the_first(run: Path) -> None:
    series = measured(opened(run))
    before, first = lines(series, "previous"), lines(series, "first")
    assert before["stem"][1:] == [0.0] * (STEPS - 1)
    assert before["blocks.1"][1:] == pytest.approx([2.0] * (STEPS - 1), rel=1e-5)
    assert first["blocks.1"][1:] == pytest.approx([3.0**step - 1 for step in range(1, STEPS)], rel=1e-5)
    assert math.isnan(before["stem"][0])
    # Another shape cannot be told from the one before it.
    assert [math.isnan(value) for value in before["head"]] == [True, False, False, True, False]


def test_that_a_module_that_never_changed_is_named_as_frozen(run: Path) -> None:
    told = answer(measured(opened(run)), "matrix", what="previous", columns=100)
    assert told["frozen"] == ["stem"]
    assert (told["known"], told["total"]) == (STEPS - 1, STEPS - 1)


def test_that_several_steps_in_one_column_show_the_largest_change(run: Path) -> None:
    series = measured(opened(run))
    told = series.matrix({"what": "first", "columns": 2}, no_progress)
    assert told.body["steps"] == [[0, 3], [3, 5]]
    row = told.body["names"].index("blocks.1")
    cells = np.frombuffer(told.buffers["cells"]).reshape(-1, 2)
    assert cells[row] == pytest.approx([8.0, 80.0], rel=1e-5)
    shades = np.frombuffer(told.buffers["shades"], np.uint8).reshape(-1, 2)
    assert shades[row].tolist() == [round(254 * 8 / told.body["limit"]), 254]


def test_that_the_ends_and_the_middle_are_measured_first_and_what_is_looked_at_before(run: Path) -> None:
    series = opened(run)
    survey, steps = SeriesSurvey(), []
    for first in ([], [], [1], [], []):
        told = series.todo({"what": "norm", "first": first}, no_progress)
        work = told.body["work"]
        found = survey.norms({**work["params"], **told.buffers}, no_progress)
        series.note({"key": work["key"], "body": found.body, **found.buffers}, no_progress)
        steps.append(work["key"][1])
    assert steps == [0, 4, 1, 2, 3]


def test_that_what_is_looked_at_is_compared_first(run: Path) -> None:
    series = opened(run)
    survey = SeriesSurvey()
    while (told := series.todo({"what": "first", "first": []}, no_progress)).body["work"]["name"] == "norms":
        found = survey.norms({**told.body["work"]["params"], **told.buffers}, no_progress)
        series.note({"key": told.body["work"]["key"], "body": found.body, **found.buffers}, no_progress)
    assert told.body["work"]["key"] == ["change", 1, 0]
    assert series.todo({"what": "first", "first": [3]}, no_progress).body["work"]["key"] == ["change", 3, 0]


def test_that_a_damaged_file_is_told_and_the_others_go_on(run: Path) -> None:
    (run / "net_2.pth").write_bytes((run / "net_2.pth").read_bytes()[:300])
    series = measured(opened(run))
    rows = answer(series, "files")["rows"]
    assert rows[2][6][0][0] == "failed"
    told = answer(series, "lines", what="norm", points=9)
    assert (told["known"], told["total"]) == (STEPS - 1, STEPS - 1)
    found = lines(series)
    assert math.isnan(found["stem"][2])
    # The one after it is compared with the one before it.
    assert lines(series, "previous")["stem"][3] == 0.0


def test_that_a_file_that_breaks_off_behind_its_header_says_how_many_tensors_are_lost(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        path = write_safetensors(tmp_path / f"e{step}.safetensors", {"a.w": np.ones(4), "b.w": np.ones(4)})
    path.write_bytes(path.read_bytes()[:-8])
    series = measured(opened(tmp_path))
    rows = answer(series, "files")["rows"]
    assert rows[1][6] == [["same", "weights as in e1.safetensors"]]
    assert rows[2][6] == [["damaged", "1 tensor cannot be read"]]
    assert answer(series, "matrix", what="previous", columns=9)["frozen"] == ["a", "b"]


def test_that_a_file_that_changes_while_it_is_measured_is_refused_and_told(run: Path) -> None:
    series = opened(run)
    told = series.todo({"what": "norm", "first": []}, no_progress)
    work = told.body["work"]
    torch.save({"state_dict": weights(2)}, run / "net_0.pth")
    with pytest.raises(CorruptCheckpoint) as caught:
        SeriesSurvey().norms({**work["params"], **told.buffers}, no_progress)
    assert caught.value.code == "file_changed"
    series.unread({"key": work["key"], "failure": caught.value.message}, no_progress)
    assert answer(series, "files")["rows"][0][6] == [["failed", "the file has changed since it was opened"]]
    assert series.todo({"what": "norm", "first": []}, no_progress).body["work"]["key"][1] != 0


def test_that_reading_stops_when_asked_and_what_is_read_is_measured(run: Path) -> None:
    series = Series()
    series.open({"paths": [str(run)]}, no_progress)
    series.read({"seconds": 0}, no_progress)
    series.read({"seconds": 0}, no_progress)
    state = series.read({"seconds": 0, "stop": True}, no_progress).body
    assert (state["read"], state["failed"]) == (STEPS, STEPS - 2)
    assert lines(measured(series), "previous")["stem"][1] == 0.0
    told = answer(series, "keys", changed=True, most=9)
    assert (told["changing"], told["unknown"]) == (0, [2, 3, 4])


def test_that_a_file_with_the_weights_of_the_one_before_it_says_so(run: Path) -> None:
    torch.save({"epoch": 1, "state_dict": weights(1)}, run / "net_1_best.pth")
    series = measured(opened(run))
    rows = {row[2]: row[6] for row in answer(series, "files")["rows"]}
    assert rows["net_1_best.pth"] == [["same", "weights as in net_1.pth"]]
    assert rows["net_1.pth"] == []


def test_that_a_file_without_tensors_is_told(tmp_path: Path) -> None:
    for step in (1, 2):
        torch.save({"w": torch.ones(2)}, tmp_path / f"e{step}.pth")
    torch.save({"epoch": 3}, tmp_path / "e3.pth")
    rows = answer(opened(tmp_path), "files")["rows"]
    assert rows[2][6] == [["failed", "there is no tensor in it"]]


def test_that_names_out_of_files_are_made_printable(tmp_path: Path) -> None:
    for step in (1, 2):
        write_safetensors(tmp_path / f"e{step}\x1b[31m.safetensors", {"a\u202eb.w": np.ones(step), "c": np.ones(1)})
    series = measured(opened(tmp_path))
    told = str([answer(series, "files"), answer(series, "keys", changed=False, most=9)])
    told += str(answer(series, "lines", what="norm", points=9))
    assert "\x1b" not in told.encode().decode("unicode_escape", "ignore") or "\\x1b" in told
    assert "\u202e" not in told
    assert "\x1b" not in told


def test_that_a_series_is_opened_by_a_worker_that_may_not_write(run: Path) -> None:
    worker = Worker("series")
    try:
        for name, params in (("open", {"paths": [str(run)]}), ("read", {"seconds": 60})):
            told = Answered()
            worker.request(name, params, told.done, told.failed)
            told.wait()
            assert told.failure is None
        assert told.body is not None
        assert told.body["read"] == STEPS
    finally:
        worker.stop()


def test_that_what_is_no_series_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OpenError):
        opened(tmp_path)
    assert list(tmp_path.iterdir()) == []
