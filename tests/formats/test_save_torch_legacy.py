from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sdviewer.errors import SaveError
from sdviewer.formats import open_checkpoint
from tests.formats.saved_files import same, saved

# torch says at every legacy load and save of a module that its source is not compared; that is not ours to change.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def save_legacy(value: Any, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def parts(path: Path) -> tuple[bytes, bytes, bytes, bytes]:
    """A stream cut into what stands before the object pickle, that pickle, the list of storages, and the storages."""
    spans = open_checkpoint(path).source.spans
    data = path.read_bytes()
    return data[: spans[2][1]], data[slice(*spans[3])], data[slice(*spans[4])], data[spans[4][1] :]


def test_that_renaming_changes_the_object_pickle_alone(tmp_path: Path) -> None:
    tensors = {"epoch": 1, "state_dict": {f"module.{i}": torch.full((i + 1,), 1.0 * i) for i in range(11)}}
    save_legacy(tensors, tmp_path / "a.pt")
    receipt = saved(tmp_path / "a.pt", tmp_path / "b.pt", lambda key: key.removeprefix("module."))
    before, after = parts(tmp_path / "a.pt"), parts(tmp_path / "b.pt")
    assert [i for i in range(4) if before[i] != after[i]] == [1]
    loaded = torch.load(tmp_path / "b.pt", weights_only=True)
    assert same(list(loaded["state_dict"].values()), list(tensors["state_dict"].values()))  # type: ignore[attr-defined]
    assert list(loaded["state_dict"]) == [str(i) for i in range(11)]
    assert receipt.container == "torch-legacy"


def test_that_a_dropped_tensor_takes_its_key_along_since_torch_insists(tmp_path: Path) -> None:
    base = torch.arange(8.0)
    tensors = {"a": torch.ones(3), "b": base[:4], "c": base[4:], "d": torch.zeros(2, dtype=torch.int8)}
    save_legacy(tensors, tmp_path / "a.pt")
    for gone in ("a", "b", "d"):
        (tmp_path / "b.pt").unlink(missing_ok=True)
        saved(tmp_path / "a.pt", tmp_path / "b.pt", {gone: None})
        loaded = torch.load(tmp_path / "b.pt", weights_only=True)
        assert same(loaded, {key: value for key, value in tensors.items() if key != gone})
        size = (tmp_path / "b.pt").stat().st_size
        assert len(open_checkpoint(tmp_path / "b.pt").source.storages) == (3 if gone == "b" else 2)
        assert not open_checkpoint(tmp_path / "b.pt").problems
        assert size < (tmp_path / "a.pt").stat().st_size


def test_that_unwrapping_leaves_out_the_storages_of_the_rest(tmp_path: Path) -> None:
    save_legacy({"model": nn.BatchNorm1d(3).state_dict(), "momentum": [torch.ones(9)]}, tmp_path / "a.pt")
    saved(tmp_path / "a.pt", tmp_path / "b.pt", unwrap=True, state_dict="model")
    loaded = torch.load(tmp_path / "b.pt")
    nn.BatchNorm1d(3).load_state_dict(loaded, strict=True)
    assert loaded._metadata == nn.BatchNorm1d(3).state_dict()._metadata  # type: ignore[attr-defined]
    assert len(open_checkpoint(tmp_path / "b.pt").source.storages) == 5


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)


def test_that_a_pickled_module_keeps_the_source_of_its_class(tmp_path: Path) -> None:
    save_legacy(Net(), tmp_path / "a.pt")
    saved(tmp_path / "a.pt", tmp_path / "b.pt", {"fc.weight": "fc.kernel"})
    assert b"self.fc = nn.Linear(2, 2)" in parts(tmp_path / "b.pt")[1]
    assert list(torch.load(tmp_path / "b.pt", weights_only=False).fc._parameters) == ["kernel", "bias"]


def test_that_a_stream_that_breaks_off_is_repaired_by_dropping_what_is_missing(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(3), "b": torch.ones(1000), "c": torch.zeros(4)}
    save_legacy(tensors, tmp_path / "a.pt")
    checkpoint = open_checkpoint(tmp_path / "a.pt")
    last = list(checkpoint.source.storages)[-1]
    name = next(str(tensor.key) for tensor in checkpoint.tensors if tensor.storage == last)
    (tmp_path / "a.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:-4])
    with pytest.raises(SaveError, match="breaks off: storage") as caught:
        saved(tmp_path / "a.pt", tmp_path / "b.pt", lambda key: "x." + key)
    assert caught.value.code == "source_damaged"
    saved(tmp_path / "a.pt", tmp_path / "b.pt", {name: None})
    assert same(torch.load(tmp_path / "b.pt"), {key: value for key, value in tensors.items() if key != name})
