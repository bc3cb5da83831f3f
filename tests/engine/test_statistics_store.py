from __future__ import annotations

import os
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.engine import statistics_store
from sdviewer.engine.measuring import measure
from sdviewer.engine.statistics_store import folder, identity_of, load, save
from sdviewer.engine.tree_numbers import FileNumbers
from sdviewer.formats import open_checkpoint
from sdviewer.stats.table import COLUMNS, StatisticsTable


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    path = tmp_path / "a.pth"
    torch.save({"w": torch.randn(3, 4), "b": torch.zeros(5), "n": torch.arange(3)}, path)
    return open_checkpoint(str(path))


def measured(checkpoint: Checkpoint, *indices: int) -> StatisticsTable:
    table = StatisticsTable(len(checkpoint.tensors))
    table.put(indices, measure(checkpoint, indices))
    return table


def entry() -> Path:
    (path,) = folder().iterdir()
    return path


def test_that_what_was_measured_comes_back(checkpoint: Checkpoint) -> None:
    table = measured(checkpoint, 0, 2)
    assert save(identity_of(checkpoint), table)
    back = load(identity_of(open_checkpoint(checkpoint.path)), checkpoint.tensors)
    assert back is not None
    for name in COLUMNS:
        np.testing.assert_array_equal(back[name], table[name])
    assert not [path for path in folder().iterdir() if path.suffix != ".stats"]


def test_that_a_file_that_was_written_to_is_another_one(checkpoint: Checkpoint, tmp_path: Path) -> None:
    identity = identity_of(checkpoint)
    same = replace(checkpoint.identity, ctime_ns=1)
    assert identity_of(replace(checkpoint, identity=same)) == identity
    for field in ("device", "inode", "size", "mtime_ns"):
        other = replace(checkpoint.identity, **{field: 1})
        assert identity_of(replace(checkpoint, identity=other)) != identity
    assert identity_of(replace(checkpoint, path=str(tmp_path / "b.pth"))) != identity
    assert load("0" * 64, checkpoint.tensors) is None


def test_that_a_shard_that_was_written_to_makes_another_checkpoint(tmp_path: Path) -> None:
    import json

    names = ("model-1.pth", "model-2.pth")
    for name in names:
        torch.save({name: torch.ones(3)}, tmp_path / name)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {name: name for name in names}}))
    before = identity_of(open_checkpoint(str(index)))
    assert identity_of(open_checkpoint(str(index))) == before
    os.utime(tmp_path / names[1], ns=(1, 1))
    assert identity_of(open_checkpoint(str(index))) != before


@pytest.mark.parametrize("place", [0, 8, 45, 60, -1])
def test_that_a_damaged_entry_is_ignored(checkpoint: Checkpoint, place: int) -> None:
    save(identity_of(checkpoint), measured(checkpoint, 0))
    raw = bytearray(entry().read_bytes())
    raw[place] ^= 1
    entry().write_bytes(raw)
    assert load(identity_of(checkpoint), checkpoint.tensors) is None
    entry().write_bytes(raw[:30])
    assert load(identity_of(checkpoint), checkpoint.tensors) is None


def test_that_an_entry_of_other_tensors_is_ignored(checkpoint: Checkpoint) -> None:
    table = measured(checkpoint, 0, 1, 2)
    save(identity_of(checkpoint), table)
    fewer = checkpoint.tensors[:2]
    other = [checkpoint.tensors[0], checkpoint.tensors[1]._replace(shape=(6,)), checkpoint.tensors[2]]
    assert load(identity_of(checkpoint), fewer) is None
    assert load(identity_of(checkpoint), other) is None
    table["state"][1] = 7
    save(identity_of(checkpoint), table)
    assert load(identity_of(checkpoint), checkpoint.tensors) is None


def test_that_a_bomb_is_not_inflated(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zlib, "compress", lambda data, level: zlib.compressobj(9).compress(b"") + _deflated(1 << 27))
    save(identity_of(checkpoint), measured(checkpoint, 0))
    assert load(identity_of(checkpoint), checkpoint.tensors) is None


def _deflated(nbytes: int) -> bytes:
    packer = zlib.compressobj(1)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(nbytes >> 20)) + packer.flush()


def test_that_the_entries_unused_for_longest_make_room(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    table = measured(checkpoint, 0)
    save("old", table)
    size = entry().stat().st_size
    monkeypatch.setattr(statistics_store, "MOST_BYTES", 3 * size)
    for time, name in enumerate(("old", "used", "other")):
        save(name, table)
        os.utime(folder() / f"{name}.stats", ns=(time, time))
    assert load("old", checkpoint.tensors) is not None
    (folder() / "notes.txt").write_text("not ours")
    save("new", table)
    assert {path.name for path in folder().iterdir()} == {"old.stats", "other.stats", "new.stats", "notes.txt"}


def test_that_a_cache_that_cannot_be_written_is_no_failure(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    assert not save(identity_of(checkpoint), measured(checkpoint, 0))
    assert load(identity_of(checkpoint), checkpoint.tensors) is None


def test_that_a_folder_that_cannot_be_looked_into_holds_nothing(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / ("x" * 300)))
    numbers = FileNumbers(checkpoint)
    numbers.take_kept()
    assert numbers.known == 0
    assert not save(identity_of(checkpoint), measured(checkpoint, 0))
