"""The other checkpoints of the run of one file: which are found, read and left out, and what they state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdviewer.core.progress import no_progress
from sdviewer.engine import same_run
from sdviewer.engine.same_run import SameRun
from tests.engine.conftest import write_safetensors


def save(path: Path, width: int = 4, **stated: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    state_dict = {f"blocks.{at}.weight": torch.zeros(width, width) for at in range(4)}
    torch.save({"state_dict": state_dict, **stated}, path)
    return path


def found(path: Path) -> Mapping[str, Any]:
    """All that is known of its run."""
    service = SameRun()
    state = service.find({"path": str(path)}, no_progress).body
    while state["more"]:
        state = service.read({"seconds": 0.01}, no_progress).body
    return state


def names(state: Mapping[str, Any]) -> list[str]:
    return [Path(path).name for _, _, path in state["points"]]


def test_that_a_metric_of_the_run_is_told_in_the_order_of_its_steps(tmp_path: Path) -> None:
    for epoch in (10, 2, 9):
        save(tmp_path / f"net_epoch{epoch}.pth", epoch=epoch, best_acc1=torch.tensor(50.0 + epoch), lr=0.1 / epoch)
    state = found(tmp_path / "net_epoch9.pth")
    assert (state["files"], state["unit"], state["metric"], state["own"]) == (3, "epoch", "best_acc1", 1)
    assert [point[:2] for point in state["points"]] == [["2", 52.0], ["9", 59.0], ["10", 60.0]]
    assert state["to_open"] == [str(tmp_path)]


def test_that_another_model_of_such_a_name_is_left_out(tmp_path: Path) -> None:
    for epoch in range(3):
        save(tmp_path / f"epoch{epoch}.pth", val_loss=1.0 / (epoch + 1))
    save(tmp_path / "epoch3.pth", width=8, val_loss=0.1)
    (tmp_path / "epoch4.pth").write_bytes(b"no checkpoint at all")
    state = found(tmp_path / "epoch1.pth")
    assert names(state) == ["epoch0.pth", "epoch1.pth", "epoch2.pth"]
    assert state["files"] == 3
    assert [Path(path).name for path in state["to_open"]] == names(state)
    assert found(tmp_path / "epoch3.pth")["files"] == 0
    assert found(tmp_path / "epoch4.pth")["files"] == 0


def test_that_a_file_that_stands_alone_has_no_run(tmp_path: Path) -> None:
    assert found(save(tmp_path / "net_epoch1.pth"))["files"] == 0
    save(tmp_path / "other_epoch2.pth")
    assert found(tmp_path / "net_epoch1.pth")["files"] == 0


def test_that_a_file_in_the_folder_of_a_step_has_those_in_the_others(tmp_path: Path) -> None:
    for step in (500, 1000, 1500):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        write_safetensors(folder / "model.safetensors", {"fc.weight": np.zeros((2, 2))})
        (folder / "trainer_state.json").write_text(f'{{"log_history": [{{"eval_loss": {step / 1000}}}]}}')
    state = found(tmp_path / "checkpoint-1000" / "model.safetensors")
    assert (state["files"], state["metric"], state["own"]) == (3, "eval_loss", 1)
    assert [value for _, value, _ in state["points"]] == [0.5, 1.0, 1.5]
    assert state["to_open"] == [str(tmp_path)]


def test_that_a_folder_with_other_models_is_opened_file_by_file(tmp_path: Path) -> None:
    for epoch in range(2):
        save(tmp_path / f"net_epoch{epoch}.pth")
    save(tmp_path / "teacher.pth", width=8)
    assert [Path(path).name for path in found(tmp_path / "net_epoch0.pth")["to_open"]] == [
        "net_epoch0.pth",
        "net_epoch1.pth",
    ]


def test_that_numbered_files_are_a_run_only_where_they_are_alike_or_state_steps(tmp_path: Path) -> None:
    for at in range(3):
        save(tmp_path / "alike" / f"net_{at}.pth")
        write_safetensors(tmp_path / f"net_{at}.safetensors", {f"{name}.weight": np.zeros(2) for name in "abcd"[at:]})
    assert found(tmp_path / "alike" / "net_1.pth")["files"] == 3
    assert found(tmp_path / "net_1.safetensors")["files"] == 0


def test_that_of_a_long_run_evenly_some_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_run, "MOST_READ", 5)
    monkeypatch.setattr(same_run, "FIRST_READ", 3)
    first = save(tmp_path / "epoch0.pth")
    for epoch in range(1, 21):
        (tmp_path / f"epoch{epoch}.pth").symlink_to(first)
    service = SameRun()
    state = service.find({"path": str(tmp_path / "epoch3.pth")}, no_progress).body
    read = []
    while state["more"]:
        state = service.read({"seconds": 1e-9}, no_progress).body
        read.append((len(state["points"]), state["known"]))
    assert [Path(path).stem for _, _, path in state["points"]] == [f"epoch{at}" for at in (0, 3, 5, 10, 15, 20)]
    assert read == [(1, False), (2, False), (3, False), (4, True), (5, True), (6, True)]
    assert state["files"] == 21


def test_that_reading_ends_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_run, "LONGEST", 0.0)
    for epoch in range(4):
        save(tmp_path / f"epoch{epoch}.pth")
    service = SameRun()
    service.find({"path": str(tmp_path / "epoch0.pth")}, no_progress)
    assert not service.read({"seconds": 1e-9}, no_progress).body["more"]
