"""All that is in a file, as the worker answers it: structure, records, storages, metadata, what a clean copy loses."""

from __future__ import annotations

import os
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdviewer.core.progress import no_progress
from sdviewer.engine.contents import CONTENTS, Contents
from sdviewer.engine.numbers import Numbers
from sdviewer.engine.records import as_text
from sdviewer.formats import open_checkpoint
from tests.engine.conftest import write_safetensors
from tests.formats.dcp_folders import write_dcp


class Runs:
    """What would run a command if anybody unpickled it."""

    def __reduce__(self) -> Any:
        return os.system, ("exit 1",)


class Config:
    """A class that nobody else has."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


def saved(tmp_path: Path, thing: Any, **options: Any) -> Contents:
    torch.save(thing, tmp_path / "a.pt", **options)
    return Contents(open_checkpoint(tmp_path / "a.pt"))


def ask(contents: Contents, name: str, **params: Any) -> Any:
    return contents.requests[name]({"start": 0, "limit": 100, **params}, no_progress).body


def inside(contents: Contents, item: int) -> dict[str, list[Any]]:
    return {row[1]: row for row in ask(contents, "structure", item=item)["rows"]}


def returned(contents: Contents) -> dict[str, list[Any]]:
    """The rows of what the object pickle returns."""
    (pickle,) = [row for row in inside(contents, 0).values() if row[2] == "pickle"]
    return inside(contents, inside(contents, pickle[0])["returns"][0])


def test_that_every_object_is_told_with_class_arguments_state_and_bytes(tmp_path: Path) -> None:
    contents = saved(tmp_path, {"hook": Runs(), "config": Config(lr=0.5), "list": [1, "two"], 7: None})
    rows = returned(contents)
    assert list(rows) == ["hook", "config", "list", "7"]
    assert rows["hook"][2:4] == ["posix.system" if os.name == "posix" else "nt.system", "posix.system('exit 1')"]
    call = inside(contents, rows["hook"][0])
    assert list(call) == ["function", "arguments"]
    (argument,) = inside(contents, call["arguments"][0]).values()
    assert argument[2:4] == ["str", "'exit 1'"]
    data = zipfile.ZipFile(tmp_path / "a.pt").read("a/data.pkl")
    record, _, span = argument[4].partition(":")
    start, _, end = span.replace(",", "").partition("–")
    assert record == "data.pkl"
    assert data[int(start) : int(end)].endswith(b"exit 1")
    config = inside(contents, rows["config"][0])
    assert list(config) == ["class", "arguments", "state"]
    (lr,) = inside(contents, config["state"][0]).values()
    assert lr[1:4] == ["lr", "float", "0.5"]
    assert [row[3] for row in inside(contents, rows["list"][0]).values()] == ["1", "'two'"]


def test_that_shared_and_cyclic_objects_are_marked_and_cost_nothing(tmp_path: Path) -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    many: list[Any] = ["leaf"]
    for _ in range(80):
        many = [many, many]
    contents = saved(tmp_path, {"cycle": cycle, "many": many, "w": torch.ones(1)})
    rows = returned(contents)
    (again,) = inside(contents, rows["cycle"][0]).values()
    assert again[5].startswith("contains itself")
    assert not again[6]
    first, second = inside(contents, rows["many"][0]).values()
    assert first[5] == ""
    assert second[5].startswith("same object as")
    assert second[5].endswith("many › [0]")


def test_that_rows_asked_for_again_are_the_same_rows_and_no_other_place(tmp_path: Path) -> None:
    contents = saved(tmp_path, {"model": OrderedDict(w=torch.ones(1)), "list": [1]})
    first = returned(contents)
    again = returned(contents)
    assert again == first
    assert all(row[5] == "" for row in again.values())


def test_that_long_containers_come_in_pages(tmp_path: Path) -> None:
    contents = saved(tmp_path, {f"k{i}": i for i in range(450)})
    (pickle,) = [row for row in inside(contents, 0).values() if row[2] == "pickle"]
    root = inside(contents, pickle[0])["returns"]
    page = ask(contents, "structure", item=root[0], start=400, limit=200)
    assert page["total"] == 450
    assert [row[1] for row in page["rows"]] == [f"k{i}" for i in range(400, 450)]


def test_that_pickles_that_torch_does_not_read_are_there_too(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt", "a") as archive:
        archive.writestr("a/extra.pkl", b"\x80\x02cposix\nsystem\nX\x06\x00\x00\x00exit 1\x85R0N.")
    contents = Contents(open_checkpoint(tmp_path / "a.pt"))
    row = inside(contents, 0)["a/extra.pkl"]
    assert "torch.load does not read it" in row[3]
    calls = inside(contents, inside(contents, row[0])["calls"][0])
    assert [call[3] for call in calls.values()] == ["posix.system('exit 1')"]


def test_that_a_legacy_stream_shows_each_of_its_pickles_once(tmp_path: Path) -> None:
    contents = saved(tmp_path, {"w": torch.ones(1)}, _use_new_zipfile_serialization=False)
    pickles = [row for row in inside(contents, 0).values() if row[2] == "pickle"]
    assert len(pickles) == 5
    assert list(inside(contents, inside(contents, pickles[0][0])["returns"][0])) == ["w"]
    names = [row[2] for row in ask(contents, "records")["rows"]]
    assert names[:5] == ["magic number", "protocol version", "system information", "objects", "storage keys"]


def test_that_records_are_told_and_text_is_read_as_text(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(4.0)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt", "a") as archive:
        archive.writestr("a/code/model.py", "def f():\n\treturn '\u202e<b>'\n", zipfile.ZIP_DEFLATED)
        archive.writestr("a/extra.json", '{"b": [1, 2]}')
    contents = Contents(open_checkpoint(tmp_path / "a.pt"))
    answer = ask(contents, "records")
    rows = {row[1]: row for row in answer["rows"]}
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        for info in archive.infolist():
            row = rows[info.filename]
            assert row[3:6] == [info.header_offset, info.file_size, info.compress_size]
            assert row[7] == (f"{info.CRC:08x}" if info.CRC else None)
    assert rows["a/data/0"][2] == "storage"
    assert rows["a/code/model.py"][6] == "deflated"
    code = ask(contents, "record_text", record=rows["a/code/model.py"][0])
    assert code["text"] == "def f():\n    return '\\u202e<b>'\n"
    assert ask(contents, "record_text", record=rows["a/extra.json"][0])["text"] == '{\n  "b": [\n    1,\n    2\n  ]\n}'
    numbers = ask(contents, "record_text", record=rows["a/data/0"][0])
    assert numbers["note"].startswith("bytes, in hex")
    assert "00 00 80 3f" in numbers["text"]
    assert ask(contents, "record_text", record=rows["a/byteorder"][0])["text"] == "little"


def test_that_a_text_that_is_cut_in_a_character_is_still_text() -> None:
    data = "ключ".encode()
    assert as_text(data[:-1], 100) == ("клю", "text")
    assert as_text(data[:-1], len(data) - 1)[1] == "bytes, in hex"


def test_that_storages_say_who_shares_them_and_what_nobody_uses(tmp_path: Path) -> None:
    base = torch.arange(10.0)
    contents = saved(tmp_path, {"all": torch.ones(3), "part": base[:2], "other": base[1:4]})
    answer = ask(contents, "storages")
    assert (answer["total"], answer["shared"], answer["unused"], answer["nbytes"]) == (2, 1, 24, 52)
    first = answer["rows"][0]
    assert first[1:4] == [40, 24, 2]
    assert first[6] == ["part", "other"]


def test_that_metadata_of_all_kinds_are_told(tmp_path: Path) -> None:
    state_dict = OrderedDict(w=torch.ones(1))
    state_dict._metadata = OrderedDict({"": {"version": 1}, "bn": {"version": 2}})  # type: ignore[attr-defined]
    groups = ask(saved(tmp_path, {"model": state_dict}), "metadata")["groups"]
    assert ["version", "3"] in groups[0]["rows"]
    assert groups[1]["title"] == "_metadata"
    assert groups[1]["rows"] == [["(whole)", "version 1"], ["bn", "version 2"]]
    assert "model" in groups[1]["where"]
    few = ask(saved(tmp_path, {"model": state_dict}), "metadata", limit=1)["groups"][1]
    assert (len(few["rows"]), few["more"]) == (1, 1)


def test_that_what_a_clean_copy_leaves_out_is_listed_before(tmp_path: Path) -> None:
    answer = ask(saved(tmp_path, {"w": torch.ones(1), "a": Runs(), "b": [Config(t=torch.ones(2))]}), "clean")
    assert answer["possible"]
    assert answer["rows"] == [
        ["a", "posix.system", 0, ""],
        ["b.0", f"{Config.__module__}.Config", 1, "None"],
    ]
    whole = ask(saved(tmp_path, Config(a=1)), "clean")
    assert not whole["possible"]
    assert "Config" in whole["why"]
    path = write_safetensors(tmp_path / "a.safetensors", {"w": np.ones(2, np.float32)})
    assert not ask(Contents(open_checkpoint(path)), "clean")["possible"]


def test_that_of_a_whole_module_a_clean_copy_takes_the_state_dict(tmp_path: Path) -> None:
    net = torch.nn.BatchNorm1d(2)
    net.register_buffer("mask", torch.ones(3), persistent=False)
    answer = ask(saved(tmp_path, {"epoch": 3, "model": net}), "clean")
    assert (answer["possible"], answer["extract"]) == (True, True)
    assert [row[0] for row in answer["rows"]] == ["epoch", "model.mask"]
    assert (answer["total"], answer["tensors"]) == (2, 1)
    net._modules["me"] = net
    refused = ask(saved(tmp_path, net), "clean")
    assert not refused["possible"]
    assert "stands inside" in refused["why"] or "<cycle>" in refused["why"]


def test_that_a_scan_says_which_objects_need_a_name(tmp_path: Path) -> None:
    torch.save({"args": {"hook": Runs()}, "a": Config(), "b": Config(), "w": torch.ones(1)}, tmp_path / "a.pt")
    body = Numbers().requests["scan"]({"path": str(tmp_path / "a.pt")}, no_progress).body
    paths = {use["name"].rpartition(".")[2]: use["paths"] for use in body["globals"]}
    assert paths["system"] == ["args.hook"]
    assert paths["Config"] == ["a", "b"]
    assert paths["_rebuild_tensor_v2"] == ["w"]
    assert body["counts"]["dangerous"] == 1
    assert body["verdict"] == "dangerous"


@pytest.mark.parametrize("name", CONTENTS)
def test_that_every_question_has_an_answer_for_a_file_without_pickles(tmp_path: Path, name: str) -> None:
    path = write_safetensors(tmp_path / "a.safetensors", {"w": np.ones(2, np.float32)})
    assert ask(Contents(open_checkpoint(path)), name, item=0, record=0) is not None


def test_that_a_long_description_of_a_distributed_checkpoint_is_told_entry_by_entry(tmp_path: Path) -> None:
    def more(metadata: Any) -> None:
        entry = metadata.state_dict_metadata["w"]
        names = [f"module.layers.{i}.{'long.' * 20}weight" for i in range(9000)]
        metadata.state_dict_metadata.update(dict.fromkeys(names, entry))

    write_dcp(tmp_path, {"w": torch.ones(2, 3), "epoch": 3}, paths={"w": ("model", 0)}, change=more)
    contents = Contents(open_checkpoint(tmp_path))
    told = inside(contents, inside(contents, 0)[".metadata"][0])
    assert [row[3] for row in told.values()] == ["9,002 entries", "1 entry", "2 entries", "1.0.0"]
    entries = inside(contents, told["state_dict_metadata"][0])
    assert entries["w"][2:4] == ["TensorStorageMetadata", "2×3, float32, 1 part"]
    assert entries["epoch"][6] is False
    assert {name: row[3] for name, row in inside(contents, entries["w"][0]).items()}["dtype"] == "float32"
    (step, index) = inside(contents, inside(contents, told["planner_data"][0])["w"][0]).values()
    assert (step[3], index[3]) == ("model", "0")
    places = inside(contents, told["storage_data"][0])
    assert places["epoch"][3].startswith("__1_0.distcp, bytes 0 to ")
    assert places["w at [0, 0]"][3].startswith("__0_0.distcp, bytes 0 to ")
