"""Tensors taken out of a checkpoint: read back by NumPy, safetensors and torch, bit for bit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.errors import Cancelled, RepairError, SaveError, UsageError
from sdviewer.formats import open_checkpoint
from sdviewer.formats.exporting import EXPORTS, export, lacking, outlook, picks_of
from sdviewer.formats.temporary import Replacing, TemporaryFile

NUMBERS = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 7 - 1
TENSORS: dict[str, Any] = {
    "plain": NUMBERS,
    "turned": NUMBERS.t(),
    "slice": NUMBERS[1:3, ::2],
    "expanded": torch.tensor([1.5, -2.5])[:, None].expand(2, 3),
    "conj": torch.complex(NUMBERS, -NUMBERS).conj(),
    "half": NUMBERS.half(),
    "double": NUMBERS.double() / 3,
    "bf": NUMBERS.bfloat16(),
    "f8": NUMBERS.to(torch.float8_e4m3fn),
    "long": torch.tensor([-(2**62), 2**62 + 1]),
    "bool": torch.tensor([True, False, True]),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(3, 0),
    "odd": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
    "image": torch.arange(24, dtype=torch.int16).reshape(2, 3, 4),
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    path = tmp_path / "model.pt"
    torch.save({"model": TENSORS, "ema": {"plain": NUMBERS * 2}}, path)
    return open_checkpoint(str(path))


def index_of(checkpoint: Checkpoint, key: str, state_dict: int = 0) -> int:
    return next(i for i, t in enumerate(checkpoint.tensors) if (t.key, t.state_dict) == (key, state_dict))


def taken(checkpoint: Checkpoint, out: Path, kind: str, *keys: str, raw: bool = False) -> Path:
    export(checkpoint, picks_of(checkpoint, [index_of(checkpoint, key) for key in keys]), str(out), kind, raw=raw)
    return out


def bits(array: Any) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def wide(key: str) -> Any:
    tensor = TENSORS[key].resolve_conj()
    return (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float8_e4m3fn) else tensor).contiguous().numpy()


@pytest.mark.parametrize("key", TENSORS)
def test_that_numpy_reads_an_exported_tensor_bit_for_bit(checkpoint: Checkpoint, tmp_path: Path, key: str) -> None:
    found = np.load(taken(checkpoint, tmp_path / "one.npy", "npy", key))
    wanted = wide(key)
    assert (found.dtype, found.shape, bits(found)) == (wanted.dtype, wanted.shape, bits(wanted))


@pytest.mark.parametrize("key", TENSORS)
def test_that_text_gives_every_number_back(checkpoint: Checkpoint, tmp_path: Path, key: str) -> None:
    out = taken(checkpoint, tmp_path / "one.csv", "csv", key)
    wanted = wide(key)
    rows = [line.split(",") for line in out.read_text().splitlines()]
    kind = complex if wanted.dtype.kind == "c" else int if wanted.dtype.kind in "iub" else float
    found = np.array([kind(number) for row in rows for number in row]).astype(wanted.dtype)
    assert bits(found) == bits(wanted)
    if wanted.size and wanted.ndim:
        assert len(rows) == wanted.shape[0]


def test_that_a_type_that_numpy_lacks_can_be_had_raw(checkpoint: Checkpoint, tmp_path: Path) -> None:
    found = np.load(taken(checkpoint, tmp_path / "bf.npy", "npy", "bf", raw=True))
    assert found.dtype == np.dtype("V2")
    assert bits(found.view(ml_dtypes.bfloat16).astype(np.float32)) == bits(wide("bf"))


def test_that_it_is_said_before_which_types_numpy_lacks(checkpoint: Checkpoint) -> None:
    both = picks_of(checkpoint, [index_of(checkpoint, key) for key in ("bf", "f8", "half")])
    assert lacking(checkpoint, both) == 2
    nbytes, said = outlook(checkpoint, both, "npz")
    assert (nbytes, said) == (24 * 4 * 2 + 24 * 2, ())
    nbytes, said = outlook(checkpoint, both, "npz", raw=True)
    assert nbytes == 24 * (2 + 1 + 2)
    assert said == ("bf, f8: written as bytes without a type, as NumPy writes the arrays of ml_dtypes",)


def test_that_a_selection_is_an_archive_of_arrays(checkpoint: Checkpoint, tmp_path: Path) -> None:
    found = np.load(taken(checkpoint, tmp_path / "some.npz", "npz", "slice", "bf", "long"))
    assert set(found) == {"slice", "bf", "long"}
    assert all(bits(found[key]) == bits(wide(key)) for key in found)


def test_that_a_selection_is_a_file_of_safetensors(checkpoint: Checkpoint, tmp_path: Path) -> None:
    keys = [key for key in TENSORS if key != "conj"]  # the library reads complex64, torch's loader of it does not
    found = load_file(taken(checkpoint, tmp_path / "some.safetensors", "safetensors", *keys))
    assert set(found) == set(keys)
    for key in keys:
        assert (found[key].dtype, found[key].shape) == (TENSORS[key].dtype, TENSORS[key].shape)
        assert bits(found[key].view(torch.uint8).numpy() if found[key].ndim else found[key].numpy()) == bits(
            TENSORS[key].contiguous().view(torch.uint8).numpy() if TENSORS[key].ndim else TENSORS[key].numpy()
        )


def test_that_a_selection_is_a_file_of_torch(checkpoint: Checkpoint, tmp_path: Path) -> None:
    out = taken(checkpoint, tmp_path / "some.pt", "torch-zip", *TENSORS)
    found = torch.load(out, weights_only=True)
    assert list(found) == list(TENSORS)
    for key, tensor in found.items():
        assert tensor.dtype == TENSORS[key].dtype
        assert bits(tensor.reshape(-1).view(torch.uint8).numpy()) == bits(
            TENSORS[key].resolve_conj().contiguous().reshape(-1).view(torch.uint8).numpy()
        )


def test_that_equal_keys_of_two_state_dicts_are_told_apart(checkpoint: Checkpoint, tmp_path: Path) -> None:
    both = picks_of(checkpoint, [index_of(checkpoint, "plain"), index_of(checkpoint, "plain", 1)])
    out = tmp_path / "both.npz"
    export(checkpoint, both, str(out), "npz")
    found = np.load(out)
    assert set(found) == {"model.plain", "ema.plain"}
    assert bits(found["ema.plain"]) == bits((NUMBERS * 2).numpy())


def test_that_tied_tensors_have_their_own_bytes_each(tmp_path: Path) -> None:
    path = tmp_path / "tied.pt"
    torch.save({"a": NUMBERS, "b": NUMBERS}, path)
    checkpoint = open_checkpoint(str(path))
    out = taken(checkpoint, tmp_path / "tied.safetensors", "safetensors", "a", "b")
    assert set(load_file(out)) == {"a", "b"}


@pytest.mark.parametrize("kind", ["npy", "csv"])
def test_that_one_tensor_at_a_time_goes_into_what_holds_one(checkpoint: Checkpoint, tmp_path: Path, kind: str) -> None:
    with pytest.raises(UsageError, match="holds one tensor, not 2"):
        taken(checkpoint, tmp_path / f"x.{kind}", kind, "plain", "bf")


def test_that_text_of_more_axes_says_that_the_shape_is_not_in_it(checkpoint: Checkpoint) -> None:
    _, said = outlook(checkpoint, picks_of(checkpoint, [index_of(checkpoint, "image")]), "csv")
    assert said == ("written as 2 rows of 12 numbers: csv files have no shape",)


def test_that_a_type_without_numbers_is_refused_as_text(tmp_path: Path) -> None:
    path = tmp_path / "bits.pt"
    torch.save({"b": torch.zeros(4, dtype=torch.uint8).view(torch.bits8)}, path)
    checkpoint = open_checkpoint(str(path))
    with pytest.raises(RepairError):
        taken(checkpoint, tmp_path / "b.csv", "csv", "b")


@pytest.mark.parametrize("kind", EXPORTS)
def test_that_nothing_is_left_of_an_export_that_was_cancelled(
    checkpoint: Checkpoint, tmp_path: Path, kind: str
) -> None:
    def progress(done: int, total: int) -> None:
        if done > 0:
            raise Cancelled

    before = sorted(tmp_path.iterdir())
    with pytest.raises(Cancelled):
        export(
            checkpoint,
            picks_of(checkpoint, [index_of(checkpoint, "plain")]),
            str(tmp_path / "x"),
            kind,
            progress=progress,
        )
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", EXPORTS)
def test_that_a_file_is_replaced_only_when_that_is_wanted(checkpoint: Checkpoint, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "x"
    out.write_bytes(b"mine")
    picks = picks_of(checkpoint, [index_of(checkpoint, "plain")])
    with pytest.raises(SaveError):
        export(checkpoint, picks, str(out), kind)
    assert out.read_bytes() == b"mine"
    export(checkpoint, picks, str(out), kind, replacing=Replacing(allowed=True))
    assert out.read_bytes() != b"mine"


def test_that_the_file_itself_is_never_written(checkpoint: Checkpoint) -> None:
    before = Path(checkpoint.path).read_bytes()
    with pytest.raises(UsageError):
        export(checkpoint, picks_of(checkpoint, [0]), checkpoint.path, "npy", replacing=Replacing(allowed=True))
    assert Path(checkpoint.path).read_bytes() == before


def test_that_a_damaged_result_is_not_put_in_place(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that gives back other bytes than it was given."""
    whole = TemporaryFile.sync

    def damaging(self: TemporaryFile) -> None:
        os.pwrite(self.fd, b"9", os.fstat(self.fd).st_size - 2)
        whole(self)

    monkeypatch.setattr(TemporaryFile, "sync", damaging)
    for kind in ("npy", "csv"):
        with pytest.raises(SaveError, match="did not verify"):
            taken(checkpoint, tmp_path / f"x.{kind}", kind, "plain")
        assert not (tmp_path / f"x.{kind}").exists()
