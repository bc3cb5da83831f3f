from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sdviewer.errors import RepairError, SaveError
from tests.formats.saved_files import same, saved


def write(path: Path, header: object, data: bytes, blanks: bytes = b"") -> None:
    text = blanks + json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def header_of(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    assert data[8:9] == b"{"
    header: dict[str, object] = json.loads(data[8 : 8 + length])
    return header


def test_that_names_change_and_nothing_else(tmp_path: Path) -> None:
    tensors = {
        "b.weight": torch.randn(3, 2),
        "a.bias": torch.ones(3).half(),
        "c": torch.empty(0, 4),
        "d": torch.tensor(7),
    }
    save_file(tensors, tmp_path / "a.safetensors", {"format": "pt", "z": "1", "a": "ä"})
    receipt = saved(tmp_path / "a.safetensors", tmp_path / "b.safetensors", {"b.weight": "ü.weight"}, ask_torch=True)
    renamed = {("ü.weight" if key == "b.weight" else key): value for key, value in tensors.items()}
    loaded = load_file(tmp_path / "b.safetensors")
    assert same({key: loaded[key] for key in renamed}, renamed)
    before, after = header_of(tmp_path / "a.safetensors"), header_of(tmp_path / "b.safetensors")
    assert list(after) == [("ü.weight" if key == "b.weight" else key) for key in before]
    assert list(after["__metadata__"].items()) == list(before["__metadata__"].items())  # type: ignore[attr-defined]
    assert receipt.verified is not None
    assert receipt.verified.weights_only is None
    assert [warning.code for warning in receipt.warnings] == ["weights_only_not_tried"]


def test_that_dropped_tensors_take_their_bytes_along(tmp_path: Path) -> None:
    tensors = {f"w{i}": torch.full((10,), float(i)) for i in range(6)}
    save_file(tensors, tmp_path / "a.safetensors")
    saved(tmp_path / "a.safetensors", tmp_path / "b.safetensors", {"w0": None, "w3": None})
    with safe_open(tmp_path / "b.safetensors", "pt") as file:
        assert {key: file.get_tensor(key)[0].item() for key in file.keys()} == {"w1": 1, "w2": 2, "w4": 4, "w5": 5}  # noqa: SIM118
    before, after = header_of(tmp_path / "a.safetensors"), header_of(tmp_path / "b.safetensors")
    assert list(after) == [key for key in before if key not in ("w0", "w3")]


def test_that_what_was_read_leniently_is_written_strictly(tmp_path: Path) -> None:
    entry = {"dtype": "U8", "shape": [2], "data_offsets": [4, 6], "note": {"kept": []}}
    other = {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]}
    write(tmp_path / "a.safetensors", {"late": entry, "early": other}, b"abcXYZtail", b"  ")
    receipt = saved(tmp_path / "a.safetensors", tmp_path / "b.safetensors", {"late": "first"})
    loaded = load_file(tmp_path / "b.safetensors")
    assert bytes(loaded["first"].tolist()) == b"YZ"
    assert bytes(loaded["early"].tolist()) == b"abc"
    assert header_of(tmp_path / "b.safetensors")["first"] == entry | {"data_offsets": [3, 5]}
    assert receipt.notes == ("bytes that belonged to no tensor are left out",)


def test_that_tensors_on_the_same_bytes_are_refused_until_one_is_dropped(tmp_path: Path) -> None:
    entry = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
    inside = {"dtype": "U8", "shape": [2], "data_offsets": [2, 4]}
    write(tmp_path / "a.safetensors", {"a": entry, "b": inside}, b"abcd")
    with pytest.raises(SaveError, match="a and b share bytes"):
        saved(tmp_path / "a.safetensors", tmp_path / "b.safetensors", {"b": "c"})
    saved(tmp_path / "a.safetensors", tmp_path / "b.safetensors", {"a": None})
    assert load_file(tmp_path / "b.safetensors")["b"].tolist() == list(b"cd")


def test_that_a_tensor_whose_bytes_are_missing_can_only_be_dropped(tmp_path: Path) -> None:
    entry = {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}
    other = {"dtype": "U8", "shape": [9], "data_offsets": [2, 11]}
    write(tmp_path / "a.safetensors", {"a": entry, "b": other}, b"abc")
    with pytest.raises(SaveError, match="tensor b cannot be copied") as caught:
        saved(tmp_path / "a.safetensors", tmp_path / "b.safetensors", {"a": "x"})
    assert caught.value.code == "source_damaged"
    saved(tmp_path / "a.safetensors", tmp_path / "b.safetensors", {"b": None})
    assert load_file(tmp_path / "b.safetensors")["a"].tolist() == list(b"ab")


def test_that_names_the_format_cannot_hold_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(RepairError, match="__metadata__"):
        saved(tmp_path / "a.safetensors", tmp_path / "b.safetensors", {"a": "__metadata__"})
    with pytest.raises(SaveError, match="half a character"):
        saved(tmp_path / "a.safetensors", tmp_path / "b.safetensors", {"a": "\ud800"})
    assert not (tmp_path / "b.safetensors").exists()


def test_that_a_type_that_nobody_knows_yet_can_be_renamed(tmp_path: Path) -> None:
    entry = {"dtype": "F3_NEW", "shape": [16], "data_offsets": [0, 6]}
    known = {"dtype": "U8", "shape": [1], "data_offsets": [6, 7]}
    write(tmp_path / "a.safetensors", {"a": entry, "b": known}, b"abcdefg")
    saved(tmp_path / "a.safetensors", tmp_path / "b.safetensors", {"a": "x"})
    assert header_of(tmp_path / "b.safetensors")["x"] == entry
    assert (tmp_path / "b.safetensors").read_bytes().endswith(b"abcdefg")
