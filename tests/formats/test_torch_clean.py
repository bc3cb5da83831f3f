"""Clean copies: what torch's own list lacks goes, and nothing else."""

from __future__ import annotations

import argparse
import os
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from sdviewer.errors import RepairError
from sdviewer.formats import Receipt, open_checkpoint, save
from sdviewer.formats.scanning import scan_file
from sdviewer.repair.operations import DropObjects, Operation, Replace, Strip, Unwrap
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import Recipe
from tests.formats.saved_files import same


class Runs:
    """What would run a command if anybody unpickled it."""

    def __reduce__(self) -> Any:
        return os.system, ("exit 1",)


class Config:
    """A class that nobody else has."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


def cleaned(
    source: Path, out: Path, *before: Operation, ask_torch: bool = False, state_dict: str | None = None
) -> Receipt:
    checkpoint = open_checkpoint(source)
    plan = make_plan(Recipe(steps=(*before, DropObjects())), checkpoint, state_dict=state_dict)
    return save(checkpoint, plan, out, ask_torch=ask_torch)


def test_that_objects_go_and_tensors_and_values_stay(tmp_path: Path) -> None:
    weights = OrderedDict(w=torch.arange(6.0).view(2, 3), b=torch.ones(3, requires_grad=True))
    weights._metadata = OrderedDict({"": {"version": 2}})  # type: ignore[attr-defined]
    plain = {"model": weights, "epoch": 3, "names": ["a", None], "nested": {"lr": 0.1}, "steps": (1, 2)}
    mixed = {
        "hook": Runs(),
        "args": argparse.Namespace(lr=0.1),
        "list": [Runs(), torch.zeros(2), 5],
        "pair": (Config(a=1), 7),
        "deep": {"keep": 1, "go": Config(b=[Config()])},
        Config: "a class as a key",
    }
    torch.save({**plain, **mixed}, tmp_path / "a.pt")
    receipt = cleaned(tmp_path / "a.pt", tmp_path / "b.pt", ask_torch=True)
    loaded = torch.load(tmp_path / "b.pt", weights_only=True)
    assert same(loaded, {**plain, "list": [None, torch.zeros(2), 5], "pair": (None, 7), "deep": {"keep": 1}})
    assert loaded["model"]._metadata == weights._metadata  # type: ignore[attr-defined]
    assert receipt.verified is not None
    assert receipt.verified.weights_only
    left_out = {"hook", "args", "list.0", "pair.0", "deep.go"}
    assert left_out <= set(receipt.dropped)
    assert len(receipt.dropped) == len(left_out) + 1
    scan = scan_file(tmp_path / "b.pt")
    assert scan.weights_only_would_load
    assert {use.cls for use in scan.globals} == {"torch"}


def test_that_entries_of_the_state_dict_itself_are_told_as_dropped(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "hook": Runs(), "n": 4}, tmp_path / "a.pt")
    receipt = cleaned(tmp_path / "a.pt", tmp_path / "b.pt")
    assert receipt.map == {"w": "w", "hook": {"op": "drop"}, "n": "n"}
    assert receipt.dropped == ("hook",)
    assert receipt.written == 2
    assert same(torch.load(tmp_path / "b.pt"), {"w": torch.ones(2), "n": 4})


def test_that_a_clean_file_comes_out_as_the_same_bytes(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "n": [1, None, "x"]}, tmp_path / "a.pt")
    receipt = cleaned(tmp_path / "a.pt", tmp_path / "b.pt")
    assert (tmp_path / "b.pt").read_bytes() == (tmp_path / "a.pt").read_bytes()
    assert receipt.dropped == ()


def test_that_tensors_inside_objects_go_with_a_warning(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "ema": Config(shadow=[torch.zeros(3), torch.zeros(4)])}, tmp_path / "a.pt")
    receipt = cleaned(tmp_path / "a.pt", tmp_path / "b.pt")
    (warning,) = [warning for warning in receipt.warnings if warning.code == "tensors_left_out"]
    assert warning.keys == ("ema",)
    assert "2 tensors" in warning.message
    assert "data/1" not in zipfile.ZipFile(tmp_path / "b.pt").namelist()[-1]
    assert same(torch.load(tmp_path / "b.pt"), {"w": torch.ones(2)})


def test_that_a_tensor_that_stands_elsewhere_too_stays(tmp_path: Path) -> None:
    tensor = torch.ones(2)
    torch.save({"config": Config(weight=tensor), "w": tensor}, tmp_path / "a.pt")
    receipt = cleaned(tmp_path / "a.pt", tmp_path / "b.pt")
    assert same(torch.load(tmp_path / "b.pt"), {"w": tensor})
    assert not receipt.warnings or receipt.warnings[0].code != "tensors_left_out"


def test_that_steps_before_it_are_carried_out_too(tmp_path: Path) -> None:
    model = {"module.w": torch.ones(2), "module.hook": Runs()}
    torch.save({"state_dict": model, "args": Config()}, tmp_path / "a.pt")
    cleaned(tmp_path / "a.pt", tmp_path / "b.pt", Strip(prefix="module."))
    assert same(torch.load(tmp_path / "b.pt"), {"state_dict": {"w": torch.ones(2)}})
    cleaned(tmp_path / "a.pt", tmp_path / "c.pt", Unwrap(), Replace(find="module", new="net"))
    assert same(torch.load(tmp_path / "c.pt"), {"net.w": torch.ones(2)})
    torch.save({"state_dict": {"w": torch.ones(2)}, "args": Config(), "epoch": 3}, tmp_path / "d.pt")
    cleaned(tmp_path / "d.pt", tmp_path / "e.pt", Unwrap(keep_rest=True))
    assert same(torch.load(tmp_path / "e.pt"), {"w": torch.ones(2), "epoch": 3})


def test_that_a_state_dict_inside_an_object_is_unwrapped_out_of_it(tmp_path: Path) -> None:
    torch.save({"best": Config(model={"w": torch.ones(2), "hook": Runs()})}, tmp_path / "a.pt")
    with pytest.raises(RepairError, match="stands inside an object"):
        cleaned(tmp_path / "a.pt", tmp_path / "b.pt", Replace(find="w", new="v"), state_dict="best.model")
    assert not (tmp_path / "b.pt").exists()
    cleaned(tmp_path / "a.pt", tmp_path / "b.pt", Unwrap(path="best.model"))
    assert same(torch.load(tmp_path / "b.pt"), {"w": torch.ones(2)})


def test_that_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(RepairError, match=r"one object, torch\.nn\.modules\.linear\.Linear"):
        cleaned(tmp_path / "a.pt", tmp_path / "b.pt")
    assert not (tmp_path / "b.pt").exists()


def test_that_a_pickle_beside_the_checkpoint_goes_if_it_asks_for_more(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt", "a") as archive:
        archive.writestr("a/extra/bad.pkl", b"\x80\x02cposix\nsystem\nX\x06\x00\x00\x00exit 1\x85R.")
        archive.writestr("a/extra/good.pkl", b"\x80\x02]K\x01a.")
        archive.writestr("a/extra/renamed.txt", b"\x80\x02cposix\nsystem\nX\x06\x00\x00\x00exit 1\x85R.")
        archive.writestr("a/extra/second.pkl", b"\x80\x02N.cposix\nsystem\nX\x06\x00\x00\x00exit 1\x85R.")
    assert scan_file(tmp_path / "a.pt").verdict == "dangerous"
    receipt = cleaned(tmp_path / "a.pt", tmp_path / "b.pt")
    names = zipfile.ZipFile(tmp_path / "b.pt").namelist()
    assert not {"a/extra/bad.pkl", "a/extra/renamed.txt", "a/extra/second.pkl"}.intersection(names)
    assert "a/extra/good.pkl" in names
    assert any("bad.pkl" in note for note in receipt.notes)
    assert scan_file(tmp_path / "b.pt").verdict == "clean"


def with_pickle(path: Path, data: bytes) -> Path:
    """A torch zip with this pickle and one storage of two float32."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"data.pkl": data, "version": b"3\n", "data/0": b"\0" * 8, "byteorder": b"little"}.items():
            archive.writestr(f"a/{name}", content)
    return path


CALL = b"cposix\nsystem\nX\x06\x00\x00\x00exit 1\x85R"
TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQK\x00K\x02\x85K\x01\x85\x89}tR"
)


@pytest.mark.parametrize(
    "body",
    [
        b"}X\x01\x00\x00\x00w" + TENSOR + b"s" + CALL + b"0",
        b"}" + CALL + b"0X\x01\x00\x00\x00w" + TENSOR + b"s",
        b"}" + CALL + b"K\x01sX\x01\x00\x00\x00w" + TENSOR + b"s",
        b"}(" + CALL + b"K\x01\x86K\x02X\x01\x00\x00\x00w" + TENSOR + b"u",
        b"}X\x01\x00\x00\x00w" + TENSOR + b"s" + CALL + b"b",
    ],
    ids=["popped at the end", "popped first", "as a key", "in a key's tuple", "as a state"],
)
def test_that_calls_in_odd_places_go_too(tmp_path: Path, body: bytes) -> None:
    source = with_pickle(tmp_path / "a.pt", b"\x80\x02" + body + b".")
    assert scan_file(source).verdict == "dangerous"
    cleaned(source, tmp_path / "b.pt")
    assert scan_file(tmp_path / "b.pt").verdict == "clean"
    assert same(torch.load(tmp_path / "b.pt", weights_only=True), {"w": torch.zeros(2)})


def test_that_what_follows_the_pickle_goes(tmp_path: Path) -> None:
    source = with_pickle(tmp_path / "a.pt", b"\x80\x02}X\x01\x00\x00\x00w" + TENSOR + b"s." + CALL + b".")
    cleaned(source, tmp_path / "b.pt")
    assert b"system" not in zipfile.ZipFile(tmp_path / "b.pt").read("a/data.pkl")
    assert same(torch.load(tmp_path / "b.pt"), {"w": torch.zeros(2)})


def test_that_objects_in_each_other_and_in_many_places_are_bounded_work(tmp_path: Path) -> None:
    cycle: list[Any] = [Config()]
    cycle.append(cycle)
    shared = {"go": Config(), "stay": 1}
    many: list[Any] = [shared]
    for _ in range(60):
        many = [many, many]
    torch.save({"w": torch.ones(1), "cycle": cycle, "many": many}, tmp_path / "a.pt")
    cleaned(tmp_path / "a.pt", tmp_path / "b.pt")
    loaded = torch.load(tmp_path / "b.pt", weights_only=True)
    assert loaded["cycle"][0] is None
    assert loaded["cycle"][1] is loaded["cycle"]
    inner = loaded["many"]
    while isinstance(inner, list):
        inner = inner[0]
    assert inner == {"stay": 1}


def test_that_legacy_files_are_cleaned(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "hook": Runs()}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    cleaned(tmp_path / "a.pt", tmp_path / "b.pt")
    assert same(torch.load(tmp_path / "b.pt", weights_only=True), {"w": torch.ones(2)})


def test_that_a_stream_whose_first_pickles_ask_for_more_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    data = (tmp_path / "a.pt").read_bytes()
    at = data.index(b"u.", data.index(b"type_sizes"))
    (tmp_path / "a.pt").write_bytes(data[:at] + b"X\x01\x00\x00\x00x" + CALL + data[at:])
    assert scan_file(tmp_path / "a.pt").verdict == "dangerous"
    with pytest.raises(RepairError, match=r"asks for posix\.system"):
        cleaned(tmp_path / "a.pt", tmp_path / "b.pt")
    assert not (tmp_path / "b.pt").exists()


GONE = object()


def expected(thing: Any) -> Any:
    """What a clean copy of a thing is; GONE for an object."""
    if isinstance(thing, (Runs, Config)):
        return GONE
    if isinstance(thing, dict):
        items = {key: expected(value) for key, value in thing.items()}
        return {key: value for key, value in items.items() if value is not GONE}
    if isinstance(thing, list | tuple):
        return type(thing)(None if (inner := expected(item)) is GONE else inner for item in thing)
    return thing


LEAVES = (
    st.builds(Runs)
    | st.builds(Config, a=st.integers(0, 9))
    | st.sampled_from([1, "text", None, 0.5])
    | st.integers(1, 3).map(torch.ones)
)
THINGS = st.recursive(
    LEAVES,
    lambda inner: (
        st.dictionaries(st.text("abc", max_size=2) | st.integers(0, 3), inner, max_size=4)
        | st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.builds(Config, held=inner)
    ),
    max_leaves=14,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.text("xyz", min_size=1, max_size=2), THINGS, max_size=5))
def test_that_any_structure_loses_its_objects_and_nothing_else(tmp_path: Path, things: dict[str, Any]) -> None:
    torch.save({**things, "anchor": torch.ones(1)}, tmp_path / "a.pt")
    (tmp_path / "b.pt").unlink(missing_ok=True)
    cleaned(tmp_path / "a.pt", tmp_path / "b.pt")
    assert same(torch.load(tmp_path / "b.pt", weights_only=True), expected({**things, "anchor": torch.ones(1)}))
