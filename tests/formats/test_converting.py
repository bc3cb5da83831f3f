"""A matrix of containers in and out, what each loses, and that other programs read what was written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sdviewer.core.checkpoint import Checkpoint, Identity
from sdviewer.core.progress import Progress
from sdviewer.errors import Cancelled, RepairError, SaveError, UnsupportedContainer, UsageError
from sdviewer.formats import FORMATS, open_checkpoint, save
from sdviewer.formats.evaluation import Evaluation
from sdviewer.formats.pieces import Copy
from sdviewer.formats.receipt import Receipt
from sdviewer.formats.registry import Format
from sdviewer.formats.tensors_out import ties_of
from sdviewer.repair.plan import Plan
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import Recipe, parse_recipe
from tests.formats.saved_files import load_every_way, same
from tests.formats.test_opening import sample

OUT = ("torch-zip", "torch-legacy", "safetensors", "hf-index", "npz", "onnx")
"""Containers that are written without another process."""


def converted(source: Path, out: Path, container: str | None = None, recipe: str = "", **more: Any) -> Receipt:
    checkpoint = open_checkpoint(str(source))
    steps = parse_recipe(f'format = "sdviewer-recipe/1"\n{recipe}')
    only = ".".join(map(str, checkpoint.state_dicts[0].path)) if len(checkpoint.state_dicts) == 1 else None
    plan = make_plan(steps, checkpoint, state_dict=only, tensors_alone=container not in ("torch-zip", "torch-legacy"))
    return save(checkpoint, plan, out, container=container, ask_torch=False, **more)


def hashes(checkpoint: Checkpoint) -> dict[str, tuple[str, tuple[int, ...], str]]:
    """Dtype, shape and the hash of the row-major bytes of each tensor of the first state dict."""
    found = checkpoint.state_dicts[0]
    evaluation = Evaluation(checkpoint, Plan(0), "little")
    told = {}
    for entry, (key, index) in enumerate(zip(found.keys, found.tensor_of, strict=True)):
        if index >= 0:
            digest = hashlib.sha256(b"".join(map(bytes, evaluation.row_major(entry).chunks()))).hexdigest()
            told[key] = (checkpoint.tensors[index].dtype, checkpoint.tensors[index].shape, digest)
    return told


def model() -> OrderedDict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 7, generator=generator)
    return OrderedDict(
        [
            ("emb.weight", weight),
            ("turned", torch.randn(3, 4, generator=generator).t()),
            ("half", torch.randn(40, 13, generator=generator).half()),
            ("small", torch.randn(3, generator=generator).bfloat16()),
            ("count", torch.tensor(7)),
            ("mask", torch.tensor([True, False])),
            ("none", torch.empty(0, 3)),
            ("part", weight[1:3]),
            ("head.weight", weight),
        ]
    )


@pytest.fixture
def training(tmp_path: Path) -> Path:
    whole = {"state_dict": model(), "epoch": 3, "optimizer": {"lr": 0.1}}
    torch.save(whole, tmp_path / "in.pt")
    return tmp_path / "in.pt"


@pytest.mark.parametrize("container", OUT)
@pytest.mark.parametrize("format_", FORMATS, ids=lambda format_: format_.containers[0])
def test_that_every_container_becomes_every_other_with_equal_tensors(
    format_: Format, container: str, save: Any, tmp_path: Path
) -> None:
    source = sample(format_, save, tmp_path)
    checkpoint = open_checkpoint(source)
    if not checkpoint.state_dicts or container == checkpoint.container:
        return
    out = tmp_path / "out.file"
    receipt = converted(source, out, container)
    assert receipt.container == container
    assert receipt.verified is not None and receipt.verified.bits and receipt.verified.source_unchanged
    written = open_checkpoint(str(out))
    assert written.container == container
    assert not [problem for problem in written.problems if problem.severity != "info"]
    assert hashes(written) == hashes(checkpoint)


class TestFromATrainingCheckpoint:
    @pytest.mark.parametrize("container", [*OUT, "torchscript"])
    def test_that_the_model_survives_and_what_is_lost_is_said_before(
        self, training: Path, container: str, tmp_path: Path
    ) -> None:
        if container == "torch-zip":
            return
        out = tmp_path / "out"
        dry = converted(training, out, container, dry_run=True)
        receipt = converted(training, out, container)
        assert dry.warnings == receipt.warnings[: len(dry.warnings)]
        checkpoint = open_checkpoint(str(out))
        wanted, found = hashes(open_checkpoint(training)), hashes(checkpoint)
        if container in ("safetensors", "hf-index"):
            wanted.pop("head.weight")
        assert dict(sorted(found.items())) == dict(sorted(wanted.items()))
        said = " ".join(warning.message for warning in receipt.warnings)
        if container != "torch-legacy":
            assert receipt.dropped == ("epoch", "optimizer")
            assert "epoch, optimizer" in said and "turned: the strides" in said and "part: sees a part" in said
            assert ("head.weight: tied" in said) == (container in ("npz", "onnx"))

    def test_that_safetensors_reads_it_and_ties_are_aliases_as_its_own_library_writes_them(
        self, training: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out.safetensors"
        receipt = converted(training, out)
        found = load_file(out)
        for key, tensor in model().items():
            if key != "head.weight":
                assert torch.equal(found[key], tensor) and found[key].dtype == tensor.dtype
        header = json.loads(out.read_bytes()[8 : 8 + int.from_bytes(out.read_bytes()[:8], "little")])
        assert header.pop("__metadata__") == {"format": "pt", "head.weight": "emb.weight"}
        assert list(header) == [key for key in model() if key != "head.weight"]
        starts = {key: header[key]["data_offsets"][0] for key in header}
        assert all(starts[key] % tensor.itemsize == 0 for key, tensor in found.items())
        assert receipt.copied_bytes > receipt.computed_bytes == 48

    def test_that_aliases_are_tied_again(self, training: Path, tmp_path: Path) -> None:
        converted(training, tmp_path / "a.safetensors")
        converted(tmp_path / "a.safetensors", tmp_path / "back.pt")
        found = load_every_way(tmp_path / "back.pt")
        assert found["head.weight"].data_ptr() == found["emb.weight"].data_ptr()
        assert sorted(found) == sorted(model())
        converted(tmp_path / "a.safetensors", tmp_path / "a.npz")
        assert np.array_equal(np.load(tmp_path / "a.npz")["head.weight"], model()["head.weight"].numpy())

    def test_that_ties_can_be_copies_instead(self, training: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.safetensors"
        receipt = converted(training, out, shared="clone")
        assert torch.equal(load_file(out)["head.weight"], model()["head.weight"])
        assert any("head.weight: tied" in warning.message for warning in receipt.warnings)
        checkpoint = open_checkpoint(training)
        plan = make_plan(Recipe(), checkpoint)
        assert ties_of(checkpoint, plan) == {"head.weight": "emb.weight"}

    def test_that_numpy_reads_it(self, training: Path, tmp_path: Path) -> None:
        converted(training, tmp_path / "out.npz")
        found = np.load(tmp_path / "out.npz")
        for key, tensor in model().items():
            raw = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
            array = found[key].view(np.int16) if tensor.dtype == torch.bfloat16 else found[key]
            assert array.shape == tuple(tensor.shape) and np.array_equal(array, raw.numpy())

    def test_that_torch_finds_the_parameters_of_a_torchscript_file(self, tmp_path: Path) -> None:
        weights = model() | {"block.0.type": torch.ones(2), "block.1.w b": torch.ones(3).to(torch.float8_e4m3fn)}
        torch.save(weights, tmp_path / "in.pt")
        converted(tmp_path / "in.pt", tmp_path / "out.ts", "torchscript")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.jit.load(str(tmp_path / "out.ts"))
        found = loaded.state_dict()
        assert {name for name, _ in loaded.named_parameters()} == weights.keys() - {"head.weight"}
        assert sorted(found) == sorted(weights)
        for key, tensor in weights.items():
            assert found[key].dtype == tensor.dtype
            assert torch.equal(found[key].reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))

    @pytest.mark.parametrize("key", ["a.class.w", "a..b", 'a"b', "_buffers", "emb.weight.more"])
    def test_that_a_key_that_cpp_cannot_read_is_refused(self, key: str, tmp_path: Path) -> None:
        torch.save(model() | {key: torch.ones(2)}, tmp_path / "in.pt")
        with pytest.raises(RepairError) as caught:
            converted(tmp_path / "in.pt", tmp_path / "out.ts", "torchscript")
        assert caught.value.key in (key, "emb.weight")
        assert not (tmp_path / "out.ts").exists()


class TestTheObjectGraph:
    def test_that_a_legacy_copy_has_every_object_and_back_again(self, tmp_path: Path) -> None:
        module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
        optimizer = torch.optim.Adam(module.parameters())
        module(torch.ones(4, 3)).sum().backward()
        optimizer.step()
        weight = torch.arange(12.0).reshape(3, 4).t()
        whole = {"model": module.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "w": [weight, weight]}
        torch.save(whole, tmp_path / "a.pt")
        converted(tmp_path / "a.pt", tmp_path / "b.pt", "torch-legacy")
        converted(tmp_path / "b.pt", tmp_path / "c.pt", "torch-zip")
        old, new = torch.load(tmp_path / "b.pt", weights_only=True), load_every_way(tmp_path / "c.pt")
        for found in (old, new):
            assert same(found, whole) and found["w"][0] is found["w"][1]
            assert found["model"]._metadata == whole["model"]._metadata  # type: ignore[attr-defined]
        assert not zipfile.is_zipfile(tmp_path / "b.pt")

    def test_that_classes_that_nobody_knows_stay(self, tmp_path: Path) -> None:
        torch.save({"w": torch.ones(2), "args": Path("a/b"), "f": print}, tmp_path / "a.pt")
        converted(tmp_path / "a.pt", tmp_path / "b.pt", "torch-legacy")
        assert torch.load(tmp_path / "b.pt", weights_only=False)["args"] == Path("a/b")

    def test_that_a_pickle_of_tensors_becomes_a_torch_file(self, tmp_path: Path) -> None:
        whole = {"w": torch.arange(5.0), "deep": [{"b": torch.ones(2, 2).half()}], "epoch": 3}
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(whole, 2))
        converted(tmp_path / "a.pkl", tmp_path / "b.pt", "torch-zip")
        assert same(load_every_way(tmp_path / "b.pt"), whole)

    def test_that_big_endian_numbers_are_turned_round_once(self, tmp_path: Path, save: Any) -> None:
        torch.save({"w": torch.arange(5.0), "c": torch.tensor([1 + 2j])}, tmp_path / "a.pt")
        with zipfile.ZipFile(tmp_path / "a.pt") as old, zipfile.ZipFile(tmp_path / "big.pt", "w") as new:
            for name in old.namelist():
                data = old.read(name)
                if name.endswith("byteorder"):
                    data = b"big"
                elif "/data/" in name:
                    data = np.frombuffer(data, "<f4").astype(">f4").tobytes()
                new.writestr(name, data)
        for container in ("torch-legacy", "safetensors"):
            out = tmp_path / container
            converted(tmp_path / "big.pt", out, container)
            found = torch.load(out) if container == "torch-legacy" else load_file(out)
            assert found["w"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0] and found["c"].tolist() == [1 + 2j]

    def test_that_a_legacy_file_of_a_new_type_is_refused(self, tmp_path: Path) -> None:
        torch.save({"w": torch.ones(2).to(torch.float8_e5m2)}, tmp_path / "a.pt")
        with pytest.raises(RepairError, match="newer types"):
            converted(tmp_path / "a.pt", tmp_path / "b.pt", "torch-legacy")

    def test_that_a_recipe_is_carried_out_on_the_way(self, training: Path, tmp_path: Path) -> None:
        recipe = (
            '[[step]]\nop = "prefix"\nadd = "m."\n[[step]]\nop = "cast"\ndtype = "float16"\nkeys = ["m.emb.weight"]'
        )
        converted(training, tmp_path / "b.pt", "torch-legacy", recipe)
        found = torch.load(tmp_path / "b.pt", weights_only=True)
        assert found["epoch"] == 3 and list(found["state_dict"]) == [f"m.{key}" for key in model()]
        assert torch.equal(found["state_dict"]["m.emb.weight"], model()["emb.weight"].half())
        converted(training, tmp_path / "b.safetensors", None, recipe)
        assert torch.equal(load_file(tmp_path / "b.safetensors")["m.emb.weight"], model()["emb.weight"].half())


class TestNewTorchFiles:
    def test_that_the_pickle_is_the_one_that_torch_writes(self, tmp_path: Path) -> None:
        weights = OrderedDict((f"layer.{n}.w", torch.full((2, 3), float(n))) for n in range(1100))
        weights |= {"f8": torch.ones(2).to(torch.float8_e4m3fn), "u": torch.tensor(3, dtype=torch.uint32)}
        save_file(weights, tmp_path / "in.safetensors")
        (tmp_path / "new").mkdir()
        converted(tmp_path / "in.safetensors", tmp_path / "new" / "out.pt")
        new = zipfile.ZipFile(tmp_path / "new" / "out.pt")
        assert new.testzip() is None
        keys = open_checkpoint(tmp_path / "in.safetensors").state_dicts[0].keys
        torch.save(OrderedDict((key, weights[key]) for key in keys), tmp_path / "out.pt")
        own = zipfile.ZipFile(tmp_path / "out.pt")
        assert new.read("out/data.pkl") == own.read("out/data.pkl")
        assert [name for name in own.namelist() if "serialization_id" not in name] == new.namelist()
        assert list(load_every_way(tmp_path / "new" / "out.pt")) == list(keys)


class TestShards:
    def test_that_shards_keep_their_size_and_the_library_finds_every_tensor(
        self, training: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "run"
        receipt = converted(training, out, "hf-index", max_shard_bytes=300)
        index = json.loads((out / "model.safetensors.index.json").read_text())
        shards = sorted(set(index["weight_map"].values()))
        assert shards == [f"model-{n:05}-of-00003.safetensors" for n in (1, 2, 3)]
        found: dict[str, torch.Tensor] = {}
        for shard in shards:
            held = load_file(out / shard)
            assert {index["weight_map"][key] for key in held} == {shard}
            found |= held
        assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in found.values())
        assert all(torch.equal(found[key], tensor) for key, tensor in model().items() if key != "head.weight")
        files = {file.name: file for file in receipt.files}
        assert files.keys() == {path.name for path in out.iterdir()}
        for path in out.iterdir():
            assert files[path.name].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
            assert files[path.name].size == path.stat().st_size

    def test_that_nothing_is_left_of_a_folder_that_was_cancelled_and_none_is_replaced(
        self, training: Path, tmp_path: Path
    ) -> None:
        class Stops:
            def __init__(self) -> None:
                self.left = 12

            def __call__(self, done: int, total: int) -> None:
                self.left -= 1
                if not self.left:
                    raise Cancelled

        before = sorted(path.name for path in tmp_path.iterdir())
        stops: Progress = Stops()
        with pytest.raises(Cancelled):
            converted(training, tmp_path / "run", "hf-index", max_shard_bytes=300, progress=stops)
        assert sorted(path.name for path in tmp_path.iterdir()) == before
        (tmp_path / "run").mkdir()
        with pytest.raises(SaveError, match="never overwritten"):
            converted(training, tmp_path / "run", "hf-index", overwrite=True)

    def test_that_a_folder_is_asked_for_once_and_a_name_that_is_not_confirmed_is_said(
        self, training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "run"
        asked: list[Identity] = []

        def stop(identity: Identity) -> None:
            raise Cancelled

        with pytest.raises(Cancelled):
            converted(training, out, "hf-index", max_shard_bytes=300, before_naming=stop)
        assert not out.exists()
        sync = os.fsync

        def fails(fd: int) -> None:
            if out.exists():
                raise OSError(errno.EIO, "no answer")
            sync(fd)

        monkeypatch.setattr(os, "fsync", fails)
        receipt = converted(training, out, "hf-index", max_shard_bytes=300, before_naming=asked.append)
        assert [identity.inode for identity in asked] == [out.stat().st_ino]
        assert "not_confirmed" in [warning.code for warning in receipt.warnings]


@pytest.mark.filterwarnings("ignore:.*quantized tensor")
@pytest.mark.filterwarnings("ignore:TypedStorage")
def test_that_a_quantized_tensor_is_written_as_its_values(tmp_path: Path) -> None:
    weight = torch.randn(4, 3)
    torch.save(
        {
            "q": torch.quantize_per_tensor(weight, 0.1, 3, torch.qint8),
            "c": torch.quantize_per_channel(weight, torch.rand(4) + 0.1, torch.arange(4), 0, torch.quint8),
            "s": torch.eye(3).to_sparse(),
        },
        tmp_path / "a.pt",
    )
    whole = torch.load(tmp_path / "a.pt", weights_only=False)
    receipt = converted(tmp_path / "a.pt", tmp_path / "b.safetensors")
    found = load_file(tmp_path / "b.safetensors")
    assert torch.equal(found["q"], whole["q"].dequantize()) and torch.equal(found["c"], whole["c"].dequantize())
    assert torch.equal(found["s"], torch.eye(3))
    assert [warning.code for warning in receipt.warnings].count("converted") == 2


def test_that_a_type_that_a_container_lacks_is_left_out_and_named(tmp_path: Path) -> None:
    torch.save({"c": torch.ones(2, dtype=torch.complex128), "w": torch.ones(2)}, tmp_path / "a.pt")
    receipt = converted(tmp_path / "a.pt", tmp_path / "b.safetensors")
    assert receipt.dropped == ("c",) and receipt.map["c"] == {"op": "drop", "reason": "it is complex128"}
    assert list(load_file(tmp_path / "b.safetensors")) == ["w"]
    torch.save({"c": torch.ones(2, dtype=torch.complex128)}, tmp_path / "a.pt")
    with pytest.raises(RepairError, match="can hold nothing"):
        converted(tmp_path / "a.pt", tmp_path / "c.safetensors")


def test_that_an_archive_of_no_arrays_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "in.pt"
    torch.save({"only": torch.ones(2)}, path)
    drop = '[[step]]\nop = "drop"\nkeys = ["only"]'
    with pytest.raises(RepairError, match="can hold nothing"):
        converted(path, tmp_path / "out.npz", "npz", drop)
    assert not (tmp_path / "out.npz").exists()
    converted(path, tmp_path / "out.safetensors", "safetensors", drop)
    assert load_file(tmp_path / "out.safetensors") == {}


def test_that_a_byte_that_changes_on_its_way_is_found(
    training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdviewer.formats import converting

    lay_out = converting.lay_out_new_safetensors

    def off_by_one(*arguments: Any, **more: Any) -> Any:
        layout = lay_out(*arguments, **more)
        pieces = [Copy(piece.start - 1, piece.nbytes) if isinstance(piece, Copy) else piece for piece in layout.pieces]
        layout.pieces[:] = pieces
        return layout

    monkeypatch.setattr(converting, "lay_out_new_safetensors", off_by_one)
    with pytest.raises(SaveError, match="did not verify"):
        converted(training, tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()


def test_that_a_model_with_a_graph_is_not_copied_without_it(tmp_path: Path, save: Any) -> None:
    format_ = next(one for one in FORMATS if one.containers == ("onnx",))
    source = sample(format_, save, tmp_path)
    with pytest.raises(UnsupportedContainer, match="graph"):
        converted(source, tmp_path / "out.onnx")
    receipt = converted(source, tmp_path / "out.pt", "torch-zip")
    assert any("graph and code" in warning.message for warning in receipt.warnings)


def test_that_of_several_models_none_is_guessed(tmp_path: Path) -> None:
    torch.save({"a": {"w": torch.ones(1)}, "b": {"w": torch.ones(1)}}, tmp_path / "a.pt")
    with pytest.raises(UsageError) as caught:
        converted(tmp_path / "a.pt", tmp_path / "b.npz")
    assert caught.value.code == "state_dict"


def test_that_the_command_converts_and_compares_equal_by_hash(training: Path, tmp_path: Path) -> None:
    def run(*argv: object) -> Any:
        command = [sys.executable, "-m", "sdviewer", *map(str, argv), "--json"]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    out = tmp_path / "out.safetensors"
    report = run("convert", training, "-o", out)
    assert (report["container"], report["written"], report["dropped"]) == ("safetensors", 9, ["epoch", "optimizer"])
    before = {
        row["dotted"].removeprefix("state_dict."): row["sha256"] for row in run("stats", training, "--hash")["tensors"]
    }
    after = {row["dotted"]: row["sha256"] for row in run("stats", out, "--hash")["tensors"]}
    assert after == {key: digest for key, digest in before.items() if key != "head.weight"}
    one = run("convert", training, "-o", tmp_path / "one.pt", "--state-dict", "state_dict")
    assert one["dropped"] == ["epoch", "optimizer"]
    assert list(torch.load(tmp_path / "one.pt")) == list(model())
