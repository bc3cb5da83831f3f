from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sdviewer.core.progress import no_progress
from sdviewer.errors import OpenError
from sdviewer.formats import run_files as module
from sdviewer.formats.run_files import RunFiles, run_files, stated_beside, words_left_out
from tests.formats.test_hf_index import SHARDS, write_index


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"a": torch.ones(2)}, path)
    return path


def names(*paths: Path) -> list[str]:
    return [name for name, _ in run_files([str(path) for path in paths], no_progress).files]


def refused(*paths: Path) -> str:
    with pytest.raises(OpenError) as caught:
        run_files([str(path) for path in paths], no_progress)
    assert caught.value.code == "not_a_series"
    return caught.value.message


def test_that_the_checkpoints_of_a_folder_are_found_by_their_content(tmp_path: Path) -> None:
    for n in (10, 9):
        save(tmp_path / f"epoch{n}.model")
    (tmp_path / "log.txt").write_text("epoch 9")
    (tmp_path / "args.json").write_text("{}")
    assert names(tmp_path) == ["epoch9.model", "epoch10.model"]


def test_that_folders_of_steps_give_the_model_in_each(tmp_path: Path) -> None:
    """As transformers writes them."""
    for n in (500, 1000):
        for name in ("pytorch_model.bin", "optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state.pth"):
            save(tmp_path / f"checkpoint-{n}" / name)
    save(tmp_path / "pytorch_model.bin")
    found = run_files([str(tmp_path)], no_progress)
    assert found.files == [
        (f"checkpoint-{n}", str(tmp_path / f"checkpoint-{n}" / "pytorch_model.bin")) for n in (500, 1000)
    ]
    assert found.left_out == [("pytorch_model.bin", "beside the folders of the steps")]


def test_that_a_sharded_step_is_one_checkpoint(tmp_path: Path) -> None:
    for n in (1, 2):
        (tmp_path / f"checkpoint-{n}").mkdir()
        write_index(tmp_path / f"checkpoint-{n}", SHARDS)
    found = run_files([str(tmp_path)], no_progress)
    assert [path for _, path in found.files] == [str(tmp_path / "checkpoint-1"), str(tmp_path / "checkpoint-2")]


def test_that_the_folder_below_is_taken_where_the_checkpoints_are(tmp_path: Path) -> None:
    """As Lightning's version_0/checkpoints."""
    for n in (0, 1):
        save(tmp_path / "version_0" / "checkpoints" / f"epoch={n}.ckpt")
    (tmp_path / "version_0" / "hparams.yaml").write_text("a: 1")
    assert names(tmp_path) == ["epoch=0.ckpt", "epoch=1.ckpt"]


def test_that_the_shards_of_one_checkpoint_are_no_series(tmp_path: Path) -> None:
    write_index(tmp_path, SHARDS)
    assert "are one checkpoint" in refused(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    assert "shards" in refused(tmp_path)


def test_that_one_checkpoint_is_no_series(tmp_path: Path) -> None:
    path = save(tmp_path / "epoch1.pth")
    assert "not two" in refused(tmp_path)
    assert "not two" in refused(path)
    assert "not two" in refused(path, path)


def test_that_files_and_folders_that_somebody_names_are_taken_as_they_are(tmp_path: Path) -> None:
    save(tmp_path / "run" / "pytorch_model.bin")
    one, other = save(tmp_path / "a.pth"), save(tmp_path / "b" / "b.pth")
    assert names(one, other, tmp_path / "run") == ["a.pth", "b/b.pth", "run"]


def test_that_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(OpenError):
        run_files([str(tmp_path / "nowhere")], no_progress)


def test_that_no_more_files_are_taken_than_can_be_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FILES", 2)
    for n in range(4):
        save(tmp_path / f"e{n}.pth")
    found = run_files([str(tmp_path)], no_progress)
    assert ([name for name, _ in found.files], found.more) == (["e0.pth", "e1.pth"], 2)
    assert "2 files beyond" in words_left_out(found.left_out, found.more)


def test_that_what_is_left_out_is_named_by_its_reason() -> None:
    left_out = [(f"m-{n}", "a shard") for n in range(5)] + [("x\x1b", "other")]
    assert words_left_out(left_out, 0) == "Left out: m-0, m-1, m-2 and 2 more (a shard); x\\x1b (other)"
    assert words_left_out([], 0) == ""
    assert RunFiles("").files == []


def test_that_the_last_numbers_that_a_trainer_logged_beside_a_checkpoint_are_its_own(tmp_path: Path) -> None:
    model = save(tmp_path / "checkpoint-500" / "pytorch_model.bin")
    log = [{"step": 250, "loss": 2.0}, {"step": 500, "loss": 1.5, "eval_loss": 1.75}, {"step": 500, "eval_acc": 0.5}, 7]
    state = {"global_step": 500, "best_metric": None, "log_history": log, "is_local": True, "huge": 10**400}
    (tmp_path / "checkpoint-500" / "trainer_state.json").write_text(json.dumps(state))
    expected = {"step": 500.0, "loss": 1.5, "eval_loss": 1.75, "eval_acc": 0.5, "global_step": 500.0}
    assert stated_beside(str(model.parent)) == expected


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"log_history": "x"}', "[" * 100_000])
def test_that_what_is_no_log_of_a_trainer_says_nothing(tmp_path: Path, content: str) -> None:
    assert stated_beside(str(tmp_path)) == {}
    (tmp_path / "trainer_state.json").write_text(content)
    assert stated_beside(str(tmp_path)) == {}
