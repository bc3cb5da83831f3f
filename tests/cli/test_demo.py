"""The sample checkpoints of `sdviewer demo`."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdviewer.cli.demo import write
from sdviewer.errors import SaveError
from sdviewer.formats import open_checkpoint


def test_that_the_samples_open_and_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    mine = tmp_path / "samples" / "vit_small.pth"
    mine.parent.mkdir()
    mine.write_text("mine")
    paths = write(mine.parent)
    assert mine.read_text() == "mine"
    found = {path.name: open_checkpoint(path) for path in paths if path != mine}
    assert [s.role for s in found["vit_small_epoch42.pth"].state_dicts] == ["model", "optimizer"]
    assert all(key.startswith("module.") for key in found["dataparallel.pth"].state_dicts[0].keys)


def test_that_a_folder_that_cannot_be_made_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError) as caught:
        write(tmp_path / "file" / "samples")
    assert caught.value.path == str(tmp_path / "file" / "samples")
