from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from sdviewer.errors import KeyCollision, SaveError, UsageError
from sdviewer.formats import Receipt, open_checkpoint, save
from sdviewer.repair.plan import Plan
from tests.formats.saved_files import load_every_way, plan_of, same, saved


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    torch.save({"w": torch.arange(50_000.0), "b": torch.ones(3)}, tmp_path / "a.pt")
    return tmp_path / "a.pt"


def with_progress(source: Path, out: Path, progress: Callable[[int, int], None], **more: Any) -> Receipt:
    checkpoint = open_checkpoint(source)
    plan = plan_of(checkpoint, {"w": "v"})
    return save(checkpoint, plan, out, ask_torch=False, progress=progress, **more)


def test_that_the_receipt_says_what_the_command_line_promises(source: Path, tmp_path: Path) -> None:
    receipt = saved(source, tmp_path / "b.pt", {"w": "v", "b": None}, ask_torch=True)
    document = receipt.to_json()
    assert document["output"] == str(tmp_path / "b.pt")
    digest = subprocess.run(["sha256sum", tmp_path / "b.pt"], capture_output=True, text=True, check=True).stdout[:64]
    assert document["sha256"] == digest
    assert (document["written"], document["dropped"]) == (1, ["b"])
    assert document["map"] == {"w": "v", "b": {"op": "drop"}}
    assert document["copied_bytes"] >= 200_000
    assert document["computed_bytes"] == 0
    assert document["verified"] == {
        "keys": True,
        "bits": True,
        "sharing": True,
        "weights_only": True,
        "target": None,
        "source_unchanged": True,
    }
    assert document["warnings"] == []
    assert document["size"] == (tmp_path / "b.pt").stat().st_size
    assert 'torch.load(weights_only=True, map_location="cpu") opens it' in document["checks"]
    lines = "\n".join(receipt.lines())
    assert "1 entry, 1 renamed, 1 left out" in lines
    assert digest in lines


def test_that_a_dry_run_says_the_same_and_writes_nothing(source: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(source)
    plan = plan_of(checkpoint, {"w": "v"})
    dry = save(checkpoint, plan, tmp_path / "b.pt", dry_run=True).to_json()
    assert names_in(tmp_path) == ["a.pt"]
    assert (dry["output"], dry["sha256"], dry["verified"], dry["checks"]) == (None, None, None, [])
    real = save(checkpoint, plan, tmp_path / "b.pt", ask_torch=False).to_json()
    assert all(dry[key] == real[key] for key in ("written", "dropped", "map", "copied_bytes", "size", "container"))
    assert save(checkpoint, plan, tmp_path / "c.pt", dry_run=True).lines()[0].startswith("Would write 2 entries")


def test_that_a_checkpoint_without_a_state_dict_is_copied(tmp_path: Path) -> None:
    torch.save([1, torch.ones(2)], tmp_path / "a.pt")
    checkpoint = open_checkpoint(tmp_path / "a.pt")
    receipt = save(checkpoint, Plan(None), tmp_path / "b.pt", ask_torch=False)
    assert (tmp_path / "b.pt").read_bytes() == (tmp_path / "a.pt").read_bytes()
    assert receipt.written == 1


def test_that_an_input_is_never_the_output_whatever_it_is_called(source: Path, tmp_path: Path) -> None:
    before = source.read_bytes()
    (tmp_path / "recipe.toml").write_text("")
    (tmp_path / "link.pt").symlink_to("a.pt")
    checkpoint = open_checkpoint(source)
    plan = plan_of(checkpoint, {"w": "v"})
    for out in ("a.pt", "link.pt", "recipe.toml"):
        with pytest.raises(UsageError, match="the output is an input") as caught:
            save(checkpoint, plan, tmp_path / out, overwrite=True, inputs=[str(tmp_path / "recipe.toml")])
        assert caught.value.exit_code == 2
    os.link(source, tmp_path / "hard.pt")
    checkpoint = open_checkpoint(source)
    with pytest.raises(UsageError):
        save(checkpoint, plan, tmp_path / "hard.pt", overwrite=True)
    assert source.read_bytes() == before


def test_that_an_existing_output_stays_unless_it_may_go(source: Path, tmp_path: Path) -> None:
    (tmp_path / "b.pt").write_bytes(b"precious")
    with pytest.raises(SaveError, match="exists already") as caught:
        saved(source, tmp_path / "b.pt", {"w": "v"})
    assert caught.value.exit_code == 4
    assert (tmp_path / "b.pt").read_bytes() == b"precious"
    with_progress(source, tmp_path / "b.pt", lambda done, total: None, overwrite=True)
    assert list(torch.load(tmp_path / "b.pt")) == ["v", "b"]


def test_that_the_container_comes_from_the_request_then_the_name_then_the_recipe(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "zip.pt")
    torch.save({"w": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file({"w": torch.ones(2)}, tmp_path / "s.safetensors")
    zipped, old, plain = (open_checkpoint(tmp_path / name) for name in ("zip.pt", "old.pt", "s.safetensors"))

    def container(checkpoint: Any, out: str, **more: Any) -> str:
        return save(checkpoint, plan_of(checkpoint), tmp_path / out, dry_run=True, **more).container

    assert container(zipped, "out.pth") == "torch-zip"
    assert container(old, "out.ckpt") == "torch-legacy"
    assert container(old, "out.ckpt", default_container="safetensors") == "torch-legacy"
    assert container(plain, "out") == "safetensors"
    assert container(zipped, "out.model") == "torch-zip"
    assert container(zipped, "out.safetensors") == "safetensors"
    assert container(plain, "out.pt") == "torch-zip"
    assert container(zipped, "out", default_container="safetensors") == "safetensors"
    assert container(old, "out.pt", container="torch-zip") == "torch-zip"
    assert container(old, "out.safetensors", container="npz", default_container="onnx") == "npz"
    with pytest.raises(UsageError, match="no container zip"):
        container(zipped, "out.pt", container="zip")


def test_that_two_entries_never_get_one_name(source: Path, tmp_path: Path) -> None:
    save_file({"w": torch.ones(2), "b": torch.ones(2)}, tmp_path / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        with pytest.raises(KeyCollision) as caught:
            saved(tmp_path / name, tmp_path / f"out-{name}", {"w": "b"})
        assert caught.value.key == "b"
    assert names_in(tmp_path) == ["a.pt", "a.safetensors"]


# A full disk; what else can fail is in tests/faults


FULL = """
import resource, sys
from sdviewer.errors import SaveError
from sdviewer.formats import open_checkpoint, save
from sdviewer.repair.plan import Kept, Plan, Target
checkpoint = open_checkpoint(sys.argv[1])
plan = Plan(0, (Target("v", Kept(0)), Target("b", Kept(1))))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save(checkpoint, plan, sys.argv[2], overwrite=True)
except SaveError as error:
    print(error.exit_code, error)
"""


def test_that_a_full_disk_leaves_the_old_file(source: Path, tmp_path: Path) -> None:
    (tmp_path / "b.pt").write_bytes(b"old")
    command = [sys.executable, "-c", FULL, str(source), str(tmp_path / "b.pt")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"4 {tmp_path / 'b.pt'}: larger than a file may be here: needs ")
    assert (tmp_path / "b.pt").read_bytes() == b"old"
    assert names_in(tmp_path) == ["a.pt", "b.pt"]


# The source and the disk change meanwhile


def test_that_a_source_changed_since_it_was_opened_is_not_saved(source: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(source)
    torch.save({"w": torch.zeros(50_000), "b": torch.ones(3)}, source)
    with pytest.raises(SaveError, match="changed on disk") as caught:
        save(checkpoint, plan_of(checkpoint, {"w": "v"}), tmp_path / "b.pt")
    assert caught.value.code == "file_changed"
    assert names_in(tmp_path) == ["a.pt"]


def test_that_a_source_written_to_during_the_save_is_noticed(source: Path, tmp_path: Path) -> None:
    def write_when_read_back(done: int, total: int) -> None:
        if done > total // 2:
            with source.open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"\0")

    with pytest.raises(SaveError):
        with_progress(source, tmp_path / "b.pt", write_when_read_back)
    assert names_in(tmp_path) == ["a.pt"]


def test_that_a_source_replaced_during_the_save_is_said_and_the_copy_is_of_the_opened_one(
    source: Path, tmp_path: Path
) -> None:
    other = tmp_path / "new.pt"
    torch.save({"w": torch.zeros(2), "b": torch.ones(3)}, other)

    def replace(done: int, total: int) -> None:
        if other.exists():
            other.replace(source)

    receipt = with_progress(source, tmp_path / "b.pt", replace)
    assert receipt.verified is not None
    assert receipt.verified.source_unchanged is False
    assert not any("source is the file it was" in check for check in receipt.checks)
    assert torch.load(tmp_path / "b.pt")["v"].shape == (50_000,)


# Any state dict, any edit

KEYS = st.text(st.sampled_from("ab.01ü "), min_size=1, max_size=8)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int8, torch.bool])


@st.composite
def state_dicts(draw: st.DrawFn) -> dict[str, Any]:
    """Tensors of their own, views of earlier ones and values, under odd keys."""
    found: dict[str, Any] = {}
    rows: list[torch.Tensor] = []
    for key in draw(st.lists(KEYS, min_size=1, max_size=14, unique=True)):
        kind = draw(st.sampled_from(["own", "own", "own", "same", "view", "value"]))
        if kind == "value":
            found[key] = draw(st.sampled_from([None, 1.5, "text", [1, {"a": key}], (2, "b")]))
            continue
        if kind == "own" or not rows:
            size = draw(st.integers(0, 40))
            tensor = torch.randint(0, 2, (size,)).to(draw(DTYPES))
        else:
            tensor = rows[draw(st.integers(0, len(rows) - 1))]
            tensor = tensor if kind == "same" else tensor[draw(st.integers(0, 3)) :: 2]
        rows.append(tensor)
        found[key] = tensor
    if not rows:
        found["t"] = torch.ones(1)
    return found


@settings(max_examples=40, deadline=None, database=None, derandomize=True)
@given(state_dicts(), st.sampled_from(["zip", "legacy"]), st.booleans(), st.integers(0, 2**32))
def test_that_any_renames_and_drops_leave_everything_else(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, Any], form: str, nested: bool, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    content = {"before": [torch.ones(2), "x"], "model": tensors, "after": {"n": 1}} if nested else tensors
    torch.save(content, folder / "a.pt", _use_new_zipfile_serialization=form == "zip")
    chosen = random.Random(seed)
    edits = {key: None if chosen.random() < 0.3 else key if chosen.random() < 0.4 else f"new.{key}" for key in tensors}
    checkpoint = open_checkpoint(folder / "a.pt")
    plan = plan_of(checkpoint, edits, state_dict="model" if nested else None)
    save(checkpoint, plan, folder / "b.pt", ask_torch=False)
    edited = {edits[key]: value for key, value in tensors.items() if edits[key] is not None}
    expected = {**content, "model": edited} if nested else edited
    load = load_every_way if form == "zip" else torch.load
    assert same(load(folder / "b.pt"), expected)
