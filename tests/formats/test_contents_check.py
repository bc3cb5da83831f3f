"""The bytes of a file against the checksums that its archive states."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sdviewer.errors import Cancelled, CorruptCheckpoint
from sdviewer.formats import open_checkpoint
from sdviewer.formats.contents_check import check_contents
from tests.formats.saved_files import damage


def test_that_every_record_is_compared_and_the_wrong_one_named_with_its_tensors(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    tied = torch.ones(300)
    torch.save({"model": {"a.w": tied, "b.w": tied}, "c": torch.zeros(2)}, path)
    sizes = {info.filename: info.file_size for info in zipfile.ZipFile(path).infolist()}
    told: list[tuple[int, int]] = []
    found = check_contents(open_checkpoint(path), progress=lambda done, total: told.append((done, total)))
    assert (found.records, found.nbytes, found.wrong, found.problems) == (len(sizes), sum(sizes.values()), 0, ())
    assert {total for _, total in told} == {sum(sizes.values())}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    damage(path, "/data/0")
    found = check_contents(open_checkpoint(path))
    assert found.wrong == 1
    (problem,) = found.problems
    assert (problem.severity, problem.code, problem.where) == ("error", "checksum", "model.a.w")
    assert problem.message.startswith("record a/data/0: its bytes have the checksum")
    assert problem.message.endswith("It holds model.a.w, model.b.w")


def test_that_a_record_beside_the_tensors_is_compared_too(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(2)}, path)
    damage(path, "/byteorder")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"mittle", b"little"))  # the same again, so that it opens
    assert check_contents(open_checkpoint(path)).wrong == 0
    damage(path, "serialization_id")
    (problem,) = check_contents(open_checkpoint(path)).problems
    assert "serialization_id" in problem.message
    assert problem.where == "a/.data/serialization_id"


def test_that_what_cannot_be_read_is_counted_and_not_taken_for_verified(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({f"l{at}.w": torch.ones(200) for at in range(4)}, path)
    whole = path.read_bytes()
    assert (check_contents(open_checkpoint(path)).lost, check_contents(open_checkpoint(path)).broken_off) == (0, False)
    found = {}
    for where, stop in {"in": whole.index(b"a/data/1") + 300, "behind": whole.index(b"PK\1\2")}.items():
        path.write_bytes(whole[:stop])
        checked = check_contents(open_checkpoint(path))
        assert (checked.wrong, checked.unstated, checked.problems) == (0, 0, ())
        found[where] = (checked.lost, checked.broken_off)
    # Of three storages less than all is there: the cut one, and two that only the pickle names.
    assert found == {"in": (3, True), "behind": (0, True)}


def test_that_shards_and_numpy_archives_are_compared(tmp_path: Path) -> None:
    folder = tmp_path / "hf"
    folder.mkdir()
    torch.save({"a": torch.ones(4)}, folder / "one.bin")
    torch.save({"b": torch.ones(4), "c": torch.ones(2)}, folder / "two.bin")
    index = {"metadata": {}, "weight_map": {"a": "one.bin", "b": "two.bin", "c": "two.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert check_contents(open_checkpoint(folder)).records == 3
    damage(folder / "two.bin", "/data/1")
    (problem,) = check_contents(open_checkpoint(folder)).problems
    assert problem.where == "c"
    np.savez(tmp_path / "a.npz", x=np.ones(3), y=np.ones(2))
    assert check_contents(open_checkpoint(tmp_path / "a.npz")).records == 2


def test_that_nothing_is_claimed_where_nothing_is_stated(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.ones(2)}, tmp_path / "nocrc.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    found = check_contents(open_checkpoint(tmp_path / "nocrc.pt"))
    assert found.records == 0
    assert found.unstated > 0
    save_file({"w": torch.ones(2)}, tmp_path / "a.safetensors")
    found = check_contents(open_checkpoint(tmp_path / "a.safetensors"))
    assert (found.records, found.unstated) == (0, 0)


def test_that_a_check_stops_when_it_is_told_to_or_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(2)}, path)
    checkpoint = open_checkpoint(path)

    def stop(done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        check_contents(checkpoint, progress=stop)
    torch.save({"w": torch.ones(20_000)}, path)
    with pytest.raises(CorruptCheckpoint) as caught:
        check_contents(checkpoint)
    assert caught.value.code == "file_changed"
