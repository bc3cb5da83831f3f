"""What else than the model a series can be about, by what its files hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.series.subjects import Subject, entries_of, subjects_of
from sdviewer.formats import open_checkpoint


def written(tmp_path: Path, content: dict[str, Any]) -> Checkpoint:
    torch.save(content, tmp_path / "training.pth")
    return open_checkpoint(tmp_path / "training.pth")


def trained() -> dict[str, Any]:
    """A model of two layers with its EMA and the state of its Adam after one step."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return {"model": model.state_dict(), "model_ema": model.state_dict(), "optimizer": optimizer.state_dict()}


def test_that_an_ema_and_each_moment_are_offered_and_no_count_of_steps(tmp_path: Path) -> None:
    assert subjects_of(written(tmp_path, trained())) == {
        Subject("model_ema"): "model_ema (EMA)",
        Subject("optimizer", "exp_avg"): "exp_avg of optimizer",
        Subject("optimizer", "exp_avg_sq"): "exp_avg_sq of optimizer",
    }


def test_that_a_moment_has_the_names_of_its_parameters(tmp_path: Path) -> None:
    checkpoint = written(tmp_path, trained())
    entries = entries_of(checkpoint, Subject("optimizer", "exp_avg_sq"))
    assert entries is not None
    assert [key for key, _ in entries] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert [checkpoint.tensors[at].shape for _, at in entries] == [(4, 3), (4,), (2, 4), (2,)]
    assert all(checkpoint.tensors[at].path[-1] == "exp_avg_sq" for _, at in entries)


def test_that_a_moment_whose_parameters_are_not_known_keeps_their_numbers(tmp_path: Path) -> None:
    content = trained()
    del content["model"], content["model_ema"]
    entries = entries_of(written(tmp_path, content), Subject("optimizer", "exp_avg"))
    assert entries is not None
    assert [key for key, _ in entries] == ["0", "1", "2", "3"]


def test_that_what_a_file_lacks_is_none(tmp_path: Path) -> None:
    checkpoint = written(tmp_path, {"model": {"w": torch.ones(2)}})
    assert subjects_of(checkpoint) == {}
    assert entries_of(checkpoint, Subject("optimizer", "exp_avg")) is None
    assert entries_of(checkpoint, Subject("model_ema")) is None


def test_that_odd_names_are_printable(tmp_path: Path) -> None:
    content = trained() | {"\x1b[2Jema": {"w": torch.ones(2)}}
    assert "\x1b" not in "".join(subjects_of(written(tmp_path, content)).values())
