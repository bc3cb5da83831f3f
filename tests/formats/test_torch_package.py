"""torch.package archives, written by torch 2.13 and by hand."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats import open_checkpoint
from sdviewer.formats.pickle_streams import pickle_streams
from sdviewer.pickles.scan import scan_stream
from tests.formats.conftest import Member, build_zip, elements
from tests.formats.test_torch_zip import bytes_of

Write = Callable[..., Path]

FLOATS = struct.pack("<2f", 1.0, 2.0)
W = (
    b"ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuK\2tQK\0"
    b"K\2\x85K\1\x85\x89ccollections\nOrderedDict\n)RtR"
)


def package(**members: bytes) -> bytes:
    found = [Member(f"p/{name}", data) for name, data in members.items()]
    found += [Member("p/.data/extern_modules", b"torch\nnumpy"), Member("p/.data/version", b"6\n")]
    return build_zip(found).data


@pytest.mark.filterwarnings("ignore:TypedStorage")
def test_that_all_pickles_of_a_package_are_told(tmp_path: Path) -> None:
    import torch
    from torch.package import PackageExporter

    path = tmp_path / "package.pt"
    linear = torch.nn.Linear(2, 3)
    with PackageExporter(str(path)) as exporter:
        exporter.extern("torch.**")
        exporter.save_pickle("model", "model.pkl", linear)
        exporter.save_pickle("more", "weights.bin", {"tied": linear.weight, "epoch": 7})
        exporter.save_text("model", "readme.txt", "hello")
        exporter.save_source_string("my.nets", "raise SystemExit('imported')")
    checkpoint = open_checkpoint(path)
    assert (checkpoint.container, checkpoint.problems) == ("torch-package", ())
    assert [(found.path, found.role) for found in checkpoint.state_dicts] == [
        (("model/model.pkl",), "model"),
        (("more/weights.bin",), "other"),
    ]
    rows = {(row.path[0], row.key): (i, row) for i, row in enumerate(checkpoint.tensors)}
    weight, tied = rows["model/model.pkl", "weight"], rows["more/weights.bin", "tied"]
    assert elements(checkpoint, weight[0]) == elements(checkpoint, tied[0]) == bytes_of(linear.weight.detach())
    assert weight[1].storage == tied[1].storage
    assert "torch._utils" in checkpoint.writer["extern_modules"]
    assert [value.value for value in checkpoint.values if value.path[-1] == "epoch"] == [7]
    assert sorted(checkpoint.source.pickles) == ["package/model/model.pkl", "package/more/weights.bin"]
    assert {stream.name for stream in pickle_streams(path)} == set(checkpoint.source.pickles)


def test_that_a_torchscript_module_in_a_package_is_told(write: Write) -> None:
    script = (
        b"\x80\2c__torch__\nNet\n)\x81}(X\1\0\0\0w"
        + W.replace(b"X\1\0\0\x000", b"X\x09\0\0\x000.storage")
        + (b"X\1\0\0\0lctorch.jit._pickle\nbuild_intlist\n](K\1K\2e\x85Rub.")
    )
    checkpoint = open_checkpoint(
        write(package(**{".data/0.storage": FLOATS, ".data/ts_code/0/data.pkl": script, "a/b.pkl": b"\x80\3N."}))
    )
    assert elements(checkpoint, 0) == FLOATS
    assert [value.value for value in checkpoint.values] == [1, 2, None]


def test_that_a_call_by_persistent_id_is_an_object_and_a_call(write: Write, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    command = b"touch " + str(marker).encode()
    evil = b"\x80\3(X\x0e\0\0\0reduce_packageK\5cos\nsystem\nX" + len(command).to_bytes(4, "little")
    evil += command + b"\x85tQ."
    path = write(package(**{"a/b.pkl": evil}))
    checkpoint = open_checkpoint(path)
    assert [item.cls for item in checkpoint.objects] == ["os.system"]
    (stream,) = pickle_streams(path)
    scan = scan_stream(stream.data, stream.name)
    assert scan.verdict == "dangerous"
    assert not marker.exists()


def test_that_a_damaged_pickle_leaves_the_others(write: Write) -> None:
    good = b"\x80\3}X\1\0\0\0w" + W + b"s."
    members = {".data/0.storage": FLOATS, "a/good.pkl": good, "a/bad.pkl": b"\x80\3]\xfe"}
    checkpoint = open_checkpoint(write(package(**members)))
    assert [problem.code for problem in checkpoint.problems] == ["inner_file"]
    assert elements(checkpoint, 0) == FLOATS
    with pytest.raises(CorruptCheckpoint, match="no pickle in it can be read"):
        open_checkpoint(write(package(**{"a/bad.pkl": b"\x80\3]\xfe"})))


def test_that_a_storage_that_is_not_there_is_told(write: Write) -> None:
    checkpoint = open_checkpoint(write(package(**{"a/b.pkl": b"\x80\3}X\1\0\0\0w" + W + b"s."})))
    assert "is not in the file" in checkpoint.tensors[0].unreadable
