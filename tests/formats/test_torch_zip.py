from __future__ import annotations

import collections
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdviewer.core.checkpoint import Checkpoint, TensorInfo
from sdviewer.core.dtypes import DTYPES
from sdviewer.errors import CorruptCheckpoint, SDViewerError
from sdviewer.formats import open_checkpoint
from tests.formats.conftest import Member, Save, build_zip, elements, torch_members

Write = Callable[..., Path]

V2 = b"ctorch._utils\n_rebuild_tensor_v2\n"


def by_key(checkpoint: Checkpoint) -> dict[str, tuple[int, TensorInfo]]:
    return {tensor.key: (i, tensor) for i, tensor in enumerate(checkpoint.tensors) if tensor.key is not None}


def bytes_of(tensor: Any) -> bytes:
    """torch's own idea of the row-major elements, for every dtype."""
    import torch

    return bytes(tensor.contiguous().view(torch.uint8).flatten().tolist()) if tensor.numel() else b""


def agree(checkpoint: Checkpoint, truth: dict[str, Any]) -> None:
    """Every tensor as torch.load reads it: order, shape, dtype, strides, offset, sharing, flags and elements."""
    rows = by_key(checkpoint)
    assert list(rows) == list(truth)
    storages: dict[int, str | None] = {}
    for key, tensor in truth.items():
        index, row = rows[key]
        assert row.shape == tuple(tensor.shape), key
        assert row.dtype == str(tensor.dtype).removeprefix("torch."), key
        assert row.stride == tensor.stride(), key
        assert row.storage_offset == tensor.storage_offset(), key
        assert row.requires_grad == tensor.requires_grad, key
        assert row.nbytes == tensor.numel() * tensor.element_size(), key
        assert storages.setdefault(tensor.untyped_storage()._cdata, row.storage) == row.storage, key
        assert row.storage is not None
        assert checkpoint.storages[row.storage].nbytes == tensor.untyped_storage().nbytes(), key
        if not tensor.is_conj() and not tensor.is_neg():
            assert elements(checkpoint, index) == bytes_of(tensor.detach().reshape(-1)), key
    assert len(set(storages.values())) == len(storages)


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_that_every_dtype_is_read_as_torch_reads_it(save: Save) -> None:
    import torch

    tensors = {}
    for dtype in DTYPES.values():
        if dtype.kind == "quantized" or dtype.name.startswith("f6"):
            continue
        raw = torch.arange(48, dtype=torch.uint8)
        tensors[dtype.name] = raw.clone().view(getattr(torch, dtype.name))
    path = save(tensors)
    agree(open_checkpoint(path), torch.load(path, weights_only=True))


def test_that_views_strides_and_shared_storages_are_read_as_torch_reads_them(save: Save) -> None:
    import torch

    base = torch.arange(60, dtype=torch.float32).reshape(6, 10)
    path = save(
        {
            "base": base,
            "row": base[2],
            "steps": base[::2, 1::3],
            "transposed": base.t(),
            "expanded": torch.ones(1, 3).expand(5, 3),
            "scalar": base[3, 4],
            "empty": base[:0],
            "far": torch.empty(0, 7),
            "same": base,
            "grad": torch.ones(2, requires_grad=True),
            "conj": torch.ones(2, dtype=torch.complex64).conj(),
        }
    )
    checkpoint = open_checkpoint(path)
    agree(checkpoint, torch.load(path, weights_only=True))
    assert checkpoint.storages["0"].tensors == 7
    assert checkpoint.storages["0"].used_bytes == 240
    assert by_key(checkpoint)["conj"][1].flags == ("conj",)


def test_that_used_bytes_of_a_storage_are_the_union_of_what_its_tensors_reach(save: Save) -> None:
    import torch

    base = torch.zeros(1000)
    checkpoint = open_checkpoint(save({"a": base[10:20], "b": base[15:30], "c": base[100:101]}))
    (storage,) = checkpoint.storages.values()
    assert (storage.nbytes, storage.used_bytes, storage.tensors) == (4000, 4 * 21, 3)


def test_that_parameters_and_their_attributes_are_told(save: Save) -> None:
    import torch

    plain = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    marked = torch.nn.Parameter(torch.ones(3))
    marked.partition_dim = 1  # type: ignore[attr-defined]
    noted = torch.ones(4)
    noted.note = "hello"  # type: ignore[attr-defined]
    rows = by_key(checkpoint := open_checkpoint(save({"plain": plain, "marked": marked, "noted": noted})))
    assert (rows["plain"][1].kind, rows["plain"][1].requires_grad) == ("parameter", False)
    assert rows["plain"][1].cls == "torch.nn.parameter.Parameter"
    assert (rows["noted"][1].kind, rows["noted"][1].cls) == ("tensor", "torch.Tensor")
    values = {tuple(map(str, value.path)): value.value for value in checkpoint.values}
    assert set(values.values()) == {1, "hello"}


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:Sparse")
def test_that_a_quantized_a_sparse_and_a_meta_tensor_are_told(save: Save) -> None:
    import torch

    quantized = torch.quantize_per_tensor(torch.arange(12.0).reshape(3, 4), 0.5, 3, torch.quint8)
    sparse = torch.sparse_coo_tensor(torch.tensor([[0, 1], [2, 0]]), torch.tensor([3.0, 4.0]), (2, 3))
    checkpoint = open_checkpoint(save({"q": quantized, "s": sparse, "m": torch.empty(5, 5, device="meta")}))
    rows = by_key(checkpoint)
    index, row = rows["q"]
    assert row.quant == {"qscheme": "per_tensor_affine", "scale": 0.5, "zero_point": 3}
    assert elements(checkpoint, index) == bytes(quantized.int_repr().flatten().tolist())
    assert (rows["s"][1].kind, rows["s"][1].shape, rows["s"][1].stride) == ("sparse", (2, 3), None)
    parts = [tensor for tensor in checkpoint.tensors if tensor.path[0] == "s" and len(tensor.path) == 2]
    assert [part.shape for part in parts] == [(2, 2), (2,)]
    assert (rows["m"][1].kind, rows["m"][1].storage, rows["m"][1].nbytes) == ("meta", None, 100)


def test_that_the_state_dict_and_its_metadata_are_told(save: Save) -> None:
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    checkpoint = open_checkpoint(save(model.state_dict(), "net.v1.pt"))
    (state_dict,) = checkpoint.state_dicts
    assert (state_dict.role, state_dict.path, state_dict.tensors) == ("model", (), 7)
    assert state_dict.keys == tuple(model.state_dict())
    assert state_dict.parameters == sum(tensor.numel() for tensor in model.state_dict().values())
    assert state_dict.nbytes == sum(tensor.nbytes for tensor in model.state_dict().values())
    assert checkpoint.metadata["state_dict"] == [
        {"path": [], "keys": {"": {"version": 1}, "0": {"version": 1}, "1": {"version": 2}}}
    ]
    assert checkpoint.writer["version"] == "3"
    assert checkpoint.writer["top"] == "net.v1"
    assert checkpoint.container == "torch-zip"


def test_that_a_deflated_archive_opens_and_its_numbers_are_right(save: Save, tmp_path: Path) -> None:
    import torch

    path = save({"a": torch.arange(1000.0), "b": torch.arange(10)})
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    agree(open_checkpoint(packed), torch.load(packed, weights_only=True))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_that_every_pickle_protocol_is_read(save: Save, protocol: int) -> None:
    import torch

    path = save({"w": torch.arange(6.0), "deep": {"x": torch.ones(2)}, "n": 7}, pickle_protocol=protocol)
    checkpoint = open_checkpoint(path)
    assert [tensor.path for tensor in checkpoint.tensors] == [("w",), ("deep", "x")]
    assert checkpoint.values[0].value == 7


def test_that_big_endian_storages_are_swapped_and_kept(write: Write, save: Save) -> None:
    import torch

    path = save({"f": torch.arange(4.0), "c": torch.complex(torch.ones(2), torch.arange(2.0))})
    with zipfile.ZipFile(path) as archive:
        members = [Member(info.filename, archive.read(info)) for info in archive.infolist()]
    swapped = []
    for member in members:
        data = member.data
        if "/data/" in member.name:
            data = b"".join([data[i : i + 4][::-1] for i in range(0, len(data), 4)])
        if member.name.endswith("byteorder"):
            data = b"big"
        swapped.append(member._replace(data=data))
    big = write(build_zip(swapped).data, "big.pt")
    checkpoint = open_checkpoint(big)
    assert checkpoint.byte_order == "big"
    agree(checkpoint, torch.load(big, weights_only=True))


def tensor_pickle(
    key: str = "0", numel: int = 4, offset: str = "K\0", size: str = "K\4\x85", stride: str = "K\1\x85"
) -> bytes:
    """{"w": tensor, "ok": a good one on storage "1"} at protocol 2."""
    return (
        b"\x80\2}("
        + b"X\1\0\0\0w"
        + _tensor(key, numel, offset, size, stride)
        + b"X\2\0\0\0ok"
        + _tensor("1", 4, "K\0", "K\4\x85", "K\1\x85")
        + b"u."
    )


def _tensor(key: str, numel: int, offset: str, size: str, stride: str) -> bytes:
    number = numel.to_bytes(numel.bit_length() // 8 + 1, "little")
    return (
        V2
        + b"((X\7\0\0\0storagectorch\nFloatStorage\nX"
        + len(key).to_bytes(4, "little")
        + key.encode()
        + b"X\3\0\0\0cpu\x8a"
        + bytes([len(number)])
        + number
        + b"tQ"
        + b"".join([part.encode("latin-1") for part in (offset, size, stride)])
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def archive(pickle_: bytes, **records: str) -> bytes:
    return build_zip(torch_members(pickle_, {"0": bytes(16), "1": bytes(16)}, **records)).data


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        ({"offset": "K\1"}, "reaches byte 20"),
        ({"size": "K\5\x85"}, "reaches byte 20"),
        ({"stride": "K\2\x85"}, "reaches byte 28"),
        ({"key": "7"}, "storage 7 is not in the file"),
        ({"key": "../data.pkl"}, "is not in the file"),
        ({"offset": "J\xff\xff\xff\xff"}, "negative"),
        ({"size": "J\xff\xff\xff\xff\x85"}, "negative"),
        ({"stride": "J\xff\xff\xff\xff\x85"}, "negative"),
        ({"size": "K\2K\2\x86"}, "2 sizes and 1 strides"),
        ({"size": "\x8a\x08" + "\0" * 7 + "\x40\x85", "stride": "K\0\x85"}, ""),
        ({"size": "\x8a\x08" + "\0" * 7 + "\x40\x85"}, "reaches"),
        ({"size": "\x8a\x09" + "\0" * 7 + "\x80\0\x85", "stride": "K\0\x85"}, "beyond 2**63"),
    ],
)
def test_that_a_tensor_out_of_its_storage_is_told_and_the_others_stay_usable(
    write: Write, tensor: dict[str, str], why: str
) -> None:
    checkpoint = open_checkpoint(write(archive(tensor_pickle(**tensor))))
    rows = by_key(checkpoint)
    assert why in rows["w"][1].unreadable
    assert bool(rows["w"][1].unreadable) == bool(why)
    assert rows["ok"][1].unreadable == ""
    assert elements(checkpoint, rows["ok"][0]) == bytes(16)
    assert ("tensor_unreadable" in [problem.code for problem in checkpoint.problems]) == bool(why)
    if why:
        with pytest.raises(CorruptCheckpoint, match="cannot be read"):
            elements(checkpoint, rows["w"][0])


def test_that_a_storage_of_another_size_than_stated_is_told(write: Write) -> None:
    checkpoint = open_checkpoint(write(archive(tensor_pickle(numel=5))))
    assert [problem.code for problem in checkpoint.problems] == ["storage_size"]
    assert all(not tensor.unreadable for tensor in checkpoint.tensors)


def test_that_an_unknown_byte_order_is_refused(write: Write) -> None:
    with pytest.raises(CorruptCheckpoint, match="middle"):
        open_checkpoint(write(archive(tensor_pickle(), byteorder="middle")))


def test_that_what_torch_refuses_and_we_read_is_told(write: Write) -> None:
    members = [m for m in torch_members(tensor_pickle(), {"0": bytes(16), "1": bytes(16)}) if "version" not in m.name]
    checkpoint = open_checkpoint(write(build_zip(members).data))
    assert [problem.code for problem in checkpoint.problems] == ["no_version"]
    flat = [m._replace(name=m.name.removeprefix("archive/")) for m in members]
    assert len(open_checkpoint(write(build_zip(flat).data)).tensors) == 2
    elsewhere = [Member("__MACOSX/x", b""), *members]
    checkpoint = open_checkpoint(write(build_zip(elsewhere).data))
    assert "zip_top" in [problem.code for problem in checkpoint.problems]
    assert len(checkpoint.tensors) == 2
    backslashes = [m._replace(name=m.name.replace("/", "\\")) for m in members]
    checkpoint = open_checkpoint(write(build_zip(backslashes).data))
    assert [elements(checkpoint, i) for i in range(2)] == [bytes(16)] * 2


def test_that_upper_case_names_are_read_as_torch_reads_them(write: Write) -> None:
    members = [m._replace(name=m.name.replace("data.pkl", "DATA.PKL")) for m in torch_members(tensor_pickle(), {})]
    members += [Member("archive/data/0", bytes(16)), Member("archive/data/1", bytes(16))]
    assert len(open_checkpoint(write(build_zip(members).data)).tensors) == 2


def test_that_torchscript_and_other_archives_are_no_torch_zips(write: Write) -> None:
    for member, container in (
        ("archive/constants.pkl", "torchscript"),
        ("archive/.data/extern_modules", "torch-package"),
        ("archive/archive_format", "pt2"),
    ):
        data = build_zip([*torch_members(tensor_pickle(), {}), Member(member, b"\x80\2).")]).data
        assert open_checkpoint(write(data)).container == container


def test_that_nothing_in_a_file_runs(write: Write, tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (marker,))

    for thing in (Evil(), {"w": Evil()}, {(Evil(),): 1}, collections.OrderedDict(w=[Evil(), {"x": Evil()}])):
        checkpoint = open_checkpoint(write(archive(pickle.dumps(thing, 2))))
        assert checkpoint.tensors == [] or not checkpoint.tensors
    assert not marker.exists()


def test_that_a_deflated_pickle_bomb_is_refused_before_it_is_inflated(write: Write) -> None:
    bomb = Member("archive/data.pkl", bytes(100_000), method=8, usize=4_000_000_000)
    with pytest.raises(CorruptCheckpoint, match="claims"):
        open_checkpoint(write(build_zip([bomb, Member("archive/version", b"3")]).data))


def test_that_a_broken_pickle_is_refused_with_the_byte(write: Write) -> None:
    for data in (b"\x80\2}(X\xff\0\0\0", b"\x80\2\xfe.", b""):
        with pytest.raises(CorruptCheckpoint):
            open_checkpoint(write(archive(data)))


def test_that_a_file_cut_at_any_byte_is_opened_in_part_or_refused(save: Save, write: Write) -> None:
    import torch

    data = save({"a": torch.ones(3), "b": {"c": torch.ones(2, 2), "d": 5}}).read_bytes()
    opened = 0
    for length in range(len(data)):
        path = write(data[:length], "cut.pt")
        try:
            checkpoint = open_checkpoint(path)
        except SDViewerError as error:
            assert error.path == str(path)
            continue
        opened += 1
        assert any(problem.severity == "error" for problem in checkpoint.problems)
        for index, tensor in enumerate(checkpoint.tensors):
            if not tensor.unreadable:
                elements(checkpoint, index)
    assert opened > len(data) // 2


def test_that_every_byte_of_a_pickle_may_be_damaged(write: Write, save: Save) -> None:
    import torch

    path = save({"a": torch.ones(3), "m": torch.nn.Linear(2, 2).state_dict(), "n": [1, (2.5, None), {"x": b"y"}]})
    with zipfile.ZipFile(path) as archive_:
        members = [Member(info.filename, archive_.read(info)) for info in archive_.infolist()]
    good = members[0].data
    for at in range(len(good)):
        for flip in (0x01, 0x80, 0xFF):
            bad = bytearray(good)
            bad[at] ^= flip
            try:
                checkpoint = open_checkpoint(write(build_zip([Member(members[0].name, bytes(bad)), *members[1:]]).data))
            except SDViewerError:
                continue
            for index, tensor in enumerate(checkpoint.tensors):
                if not tensor.unreadable and tensor.storage is not None:
                    elements(checkpoint, index)
