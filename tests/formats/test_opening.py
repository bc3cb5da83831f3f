from __future__ import annotations

import json
import os
import pickle
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from sdviewer.core.progress import Progress
from sdviewer.errors import Cancelled, OpenError, SDViewerError, UnknownFormat, UnsupportedContainer
from sdviewer.formats import FORMATS, Format, open_checkpoint
from sdviewer.formats import save as write_copy
from sdviewer.formats.file import opened
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import Recipe
from tests.formats import test_torch_tar
from tests.formats.conftest import Member, Save, build_zip
from tests.formats.test_gguf import gguf_file
from tests.formats.test_onnx import initializer, model

Write = Callable[..., Path]


def sample(format_: Format, save: Save, tmp_path: Path) -> Path:  # noqa: C901  one case a format
    """A small file of each format; a new format adds its own."""
    import torch
    from safetensors.torch import save_file

    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}
    match format_.containers[0]:
        case "torch-zip":
            return save(tensors)
        case "torch-legacy":
            return save(tensors, _use_new_zipfile_serialization=False)
        case "safetensors":
            save_file(tensors, tmp_path / "model.safetensors")
            return tmp_path / "model.safetensors"
        case "npy":
            np.save(tmp_path / "array.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
            return tmp_path / "array.npy"
        case "npz":
            np.savez(tmp_path / "arrays.npz", **{key: value.numpy() for key, value in tensors.items()})
            return tmp_path / "arrays.npz"
        case "gguf":
            return written(tmp_path / "model.gguf", gguf_file(GGUF_SAMPLE, bytes(24) + bytes(8) + bytes(8)))
        case "onnx":
            return written(tmp_path / "model.onnx", model(*[initializer(*entry) for entry in ONNX_SAMPLE]))
        case "hdf5":
            with h5py.File(tmp_path / "model.h5", "w") as file:
                for key, value in tensors.items():
                    file[key] = value.numpy()
            return tmp_path / "model.h5"
        case "hf-index":
            save_file({"a.weight": tensors["a.weight"]}, tmp_path / "model-1-of-2.safetensors")
            save_file({"a.bias": tensors["a.bias"]}, tmp_path / "model-2-of-2.safetensors")
            weight_map = {"a.weight": "model-1-of-2.safetensors", "a.bias": "model-2-of-2.safetensors"}
            path = tmp_path / "model.safetensors.index.json"
            path.write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": weight_map}))
            return path
        case "dcp":
            from tests.formats.dcp_folders import write_dcp

            write_dcp(tmp_path, tensors)
            return tmp_path / ".metadata"
        case "pickle":
            (tmp_path / "model.pkl").write_bytes(pickle.dumps(tensors))
            return tmp_path / "model.pkl"
        case "torch-tar":
            return _tar(tmp_path / "model.pth.tar")
        case "torchscript":
            return _script(tmp_path / "model.ts")
        case "torch-package":
            return _package(tmp_path / "package.pt")
        case "pt2":
            return _program(tmp_path / "model.pt2")
    raise AssertionError(f"no sample of {format_.name}")


# (name, sizes as GGUF writes them, type, offset); (name, sizes, type, raw bytes).
GGUF_SAMPLE = (("a.weight", (3, 2), 0, 0), ("a.bias", (2,), 0, 32))
ONNX_SAMPLE = (("a.weight", (2, 3), 1, bytes(24)), ("a.bias", (2,), 1, bytes(8)))


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _tar(path: Path) -> Path:
    numbers = struct.pack("<6f", *range(6)), struct.pack("<2f", 1, 1)
    path.write_bytes(
        test_torch_tar.tar(
            {
                "pickle": test_torch_tar.dumps({"a.weight": test_torch_tar.Id("3"), "a.bias": test_torch_tar.Id("4")}),
                "tensors": test_torch_tar.tensors([(3, 1, (2, 3), (3, 1), 0), (4, 2, (2,), (1,), 0)]),
                "storages": test_torch_tar.storages(
                    [(1, "FloatStorage", numbers[0], 6), (2, "FloatStorage", numbers[1], 2)], []
                ),
            }
        )
    )
    return path


def _script(path: Path) -> Path:
    entries = [b"X" + struct.pack("<L", len(key)) + key + torch_call(*rest) for key, *rest in (
        (b"weight", b"0", 6, b"K\2K\3\x86", b"K\3K\1\x86"), (b"bias", b"1", 2, b"K\2\x85", b"K\1\x85"),
    )]  # fmt: skip
    inner = b"c__torch__\nLinear\n)\x81}(" + b"".join(entries) + b"ub"
    path.write_bytes(
        build_zip(
            [
                Member("m/data.pkl", b"\x80\2c__torch__\nNet\n)\x81}(X\1\0\0\0a" + inner + b"ub."),
                Member("m/data/0", bytes(24)),
                Member("m/data/1", bytes(8)),
                Member("m/code/__torch__.py", b"class Net(Module):\n  a : Linear\nclass Linear(Module):\n  b : int\n"),
                Member("m/constants.pkl", b"\x80\2)."),
                Member("m/version", b"3\n"),
            ]
        ).data
    )
    return path


def _package(path: Path) -> Path:
    entries = [b"X" + struct.pack("<L", len(key)) + key + torch_call(*rest) for key, *rest in (
        (b"a.weight", b"0", 6, b"K\2K\3\x86", b"K\3K\1\x86"), (b"a.bias", b"1", 2, b"K\2\x85", b"K\1\x85"),
    )]  # fmt: skip
    path.write_bytes(
        build_zip(
            [
                Member("p/model/model.pkl", b"\x80\3}(" + b"".join(entries) + b"u."),
                Member("p/.data/0.storage", bytes(24)),
                Member("p/.data/1.storage", bytes(8)),
                Member("p/.data/extern_modules", b""),
            ]
        ).data
    )
    return path


def torch_call(key: bytes, numel: int, size: bytes, stride: bytes) -> bytes:
    """The pickle of a float32 tensor."""
    storage = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" + key + b"X\3\0\0\0cpuK" + bytes([numel]) + b"tQ"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0" + size + stride + b"\x89NtR"


def _program(path: Path) -> Path:
    def weight(name: str, sizes: list[int], strides: list[int]) -> dict[str, object]:
        meta = {"dtype": 7, "sizes": [{"as_int": n} for n in sizes], "strides": [{"as_int": n} for n in strides]}
        return {"path_name": name, "is_param": True, "use_pickle": False, "tensor_meta": meta}

    config = {"a.weight": weight("weight_0", [2, 3], [3, 1]), "a.bias": weight("weight_1", [2], [1])}
    path.write_bytes(
        build_zip(
            [
                Member("m/archive_format", b"pt2"),
                Member("m/models/model.json", b"{}"),
                Member("m/data/weights/weight_0", bytes(24)),
                Member("m/data/weights/weight_1", bytes(8)),
                Member("m/data/weights/model_weights_config.json", json.dumps({"config": config}).encode()),
            ]
        ).data
    )
    return path


@pytest.mark.parametrize("format_", FORMATS, ids=lambda format_: format_.containers[0])
class TestThatEveryFormat:
    def test_names_itself(self, format_: Format) -> None:
        assert format_.name
        assert format_.containers
        assert all(suffix.startswith(".") for suffix in format_.suffixes)
        assert sum(format_.name == other.name for other in FORMATS) == 1

    def test_recognises_its_own_file_and_no_other_does(self, format_: Format, save: Save, tmp_path: Path) -> None:
        with opened(str(sample(format_, save, tmp_path))) as file:
            assert [other.name for other in FORMATS if other.matches(file.head)] == [format_.name]

    def test_recognises_nothing_in_a_text(self, format_: Format, write: Write) -> None:
        with opened(str(write(b"hello world, this is not a checkpoint"))) as file:
            assert not format_.matches(file.head)

    def test_is_recognised_under_a_wrong_name(self, format_: Format, save: Save, tmp_path: Path) -> None:
        path = sample(format_, save, tmp_path).rename(tmp_path / "model.txt")
        assert open_checkpoint(path).container in format_.containers

    def test_tells_a_consistent_checkpoint(self, format_: Format, save: Save, tmp_path: Path) -> None:
        path = sample(format_, save, tmp_path)
        checkpoint = open_checkpoint(path)
        assert checkpoint.path == str(path)
        assert checkpoint.identity.size == path.stat().st_size
        assert checkpoint.size == sum(file.stat().st_size for file in tmp_path.iterdir())
        assert checkpoint.problems == ()
        if format_.containers == ("npy",):  # one array, which has no name
            assert [(row.path, row.shape, row.state_dict) for row in checkpoint.tensors] == [((), (2, 3), None)]
            return
        (state_dict,) = checkpoint.state_dicts
        assert sorted(state_dict.keys) == ["a.bias", "a.weight"]
        for key, row in zip(state_dict.keys, state_dict.tensor_of, strict=True):
            tensor = checkpoint.tensors[row]
            assert (tensor.key, tensor.state_dict) == (key, 0)
            assert tensor.storage in checkpoint.storages
        assert state_dict.nbytes == sum(storage.nbytes for storage in checkpoint.storages.values()) == 32

    def test_that_cannot_be_written_says_so(self, format_: Format, save: Save, tmp_path: Path) -> None:
        checkpoint = open_checkpoint(sample(format_, save, tmp_path))
        if format_.can_write or checkpoint.shards:  # what lies in several files becomes a new folder
            return
        with pytest.raises(UnsupportedContainer, match="and not written"):
            write_copy(checkpoint, make_plan(Recipe(), checkpoint), tmp_path / "copy.model")
        assert not (tmp_path / "copy.model").exists()

    def test_leaves_no_file_open(self, format_: Format, save: Save, tmp_path: Path) -> None:
        path = sample(format_, save, tmp_path)
        open_files = Path("/proc/self/fd")
        before = len(list(open_files.iterdir()))
        open_checkpoint(path)
        assert len(list(open_files.iterdir())) == before

    def test_can_be_cancelled(self, format_: Format, save: Save, tmp_path: Path) -> None:
        def stop(done: int, total: int) -> None:
            raise Cancelled

        path = sample(format_, save, tmp_path)
        progress: Progress = stop
        with pytest.raises(Cancelled):
            open_checkpoint(path, progress=progress)


def test_that_a_named_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.pt")
    with pytest.raises(UnknownFormat, match="named pipe"):
        open_checkpoint(tmp_path / "model.pt")


def test_that_a_device_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt").symlink_to("/dev/zero")
    with pytest.raises(UnknownFormat, match="device"):
        open_checkpoint(tmp_path / "model.pt")


def test_that_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket may be 107 bytes long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("model.pt")
        with pytest.raises(UnknownFormat, match="socket"):
            open_checkpoint(tmp_path / "model.pt")


def test_that_what_is_not_there_is_said(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (tmp_path / "no.pt", loop, Path("a\0b"), tmp_path / ("x" * 5000)):
        with pytest.raises(OpenError) as caught:
            open_checkpoint(path)
        assert caught.value.path == str(path)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (bytes(5000), "zeros"),
        (b"<!DOCTYPE html><html>login</html>", "web page"),
        (b"\n  <html><body>404", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n", "git-lfs pointer"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a1" * 32 + b"\nsize 2048\n", "a1a1.*2 KiB"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "gzip"),
        (b"\x28\xb5\x2f\xfdxxxx", "zstd"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\xfd7zXZ\0\0", "xz"),
        (bytes(257) + b"ustar\0" + bytes(249), "tar archive"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "7z"),
        (b'{"error": "not found"}', "error message"),
        (b'{"model_type": "bert"}', "JSON"),
        (b"x\x9c\xed\xc1\x01\r\0\0\0", "zlib"),
        (b"PYTORCH1" + bytes(100), "2018 preview"),
        (b"/home/me/checkpoints/model.pt\n", "names another file"),
        (b"hello, this is no checkpoint\n", "a text that begins"),
        (b"\x01\x02\x03\xff\xfe\xfd" * 10, "no checkpoint format"),
    ],
)
def test_that_what_is_no_checkpoint_is_named(write: Write, data: bytes, says: str) -> None:
    with pytest.raises(UnknownFormat, match=says):
        open_checkpoint(write(data))


@pytest.mark.parametrize(
    ("data", "says", "remedy"),
    [
        (b"tjgg\1\0\0\0" + bytes(40), "GGML", "llama.cpp"),
        (bytes(4) + b"ET12" + bytes(40), "ExecuTorch", "exported from"),
        (bytes(4) + b"PTMF" + bytes(40), "mobile", "TorchScript archive"),
        (b"\x1c\0\0\0TFL3" + bytes(40), "TensorFlow Lite", "ONNX"),
        (b"\0\2\1" + bytes(60) + bytes.fromhex("57fb808b247547db"), "TensorFlow checkpoint", "load_checkpoint"),
        (b"\x08\1\x12\x0b\x0a\x09\x22\5serve*\0", "SavedModel", "tf2onnx"),
        (b"\x0a\x10\x0a\1x\x12\x0bPlaceholder" * 2, "frozen TensorFlow graph", "tf2onnx"),
        (b"\x08\5\x12\2\x0a\0\xb2\x1f\2\x0a\0", "Core ML", "coremltools"),
        (b"\x82\xa6params\x81\xa6kernel\xc7\x0a\1" + bytes(10), "Flax", "safetensors"),
        (bytes.fromhex("0cdb3a2a") + bytes(40), "Orbax", "orbax"),
        (b"\x80\3cjoblib.numpy_pickle\nNumpyArrayWrapper\nq\0", "joblib", "joblib"),
    ],
)
def test_that_what_other_programs_write_is_named_with_a_way_out(
    write: Write, data: bytes, says: str, remedy: str
) -> None:
    with pytest.raises(UnsupportedContainer, match=says) as caught:
        open_checkpoint(write(data))
    assert caught.value.code == "unsupported_container"
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("saved_model.pb", "variables"), "SavedModel"),
        (("_CHECKPOINT_METADATA", "manifest.ocdbt"), "Orbax"),
        (("Manifest.json", "Data"), "Core ML"),
        (("checkpoint", "model.ckpt-1.index"), "TensorFlow checkpoint"),
    ],
)
def test_that_a_folder_of_another_program_is_named(tmp_path: Path, names: tuple[str, ...], says: str) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UnsupportedContainer, match=says) as caught:
        open_checkpoint(tmp_path)
    assert caught.value.remedy


def test_that_text_from_a_file_is_escaped_in_a_message(write: Write) -> None:
    with pytest.raises(UnknownFormat) as caught:
        open_checkpoint(write("a line with \u202e and some \u200b more\n".encode()))
    assert caught.value.message.isprintable()


def test_that_no_beginning_of_a_file_brings_another_error(write: Write) -> None:
    for first in range(256):
        for rest in (b"", b"\2", bytes(40), b"{" * 40, b"PK\5\6" + bytes(40)):
            try:
                open_checkpoint(write(bytes([first]) + rest))
            except SDViewerError as error:
                assert str(error)
