from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sdviewer.errors import KeyCollision, RepairError, SaveError
from sdviewer.formats import open_checkpoint
from tests.formats.saved_files import load_every_way, plan_of, records, same, saved


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4))


def test_that_renamed_keys_are_all_that_changes(tmp_path: Path) -> None:
    source, out = tmp_path / "a.pt", tmp_path / "b.pt"
    optimizer = torch.optim.SGD(network().parameters(), lr=0.1, momentum=0.9)
    model = network().state_dict()
    tensors = {"epoch": 3, "model": model, "optimizer": optimizer.state_dict(), "note": ["weight", None]}
    torch.save(tensors, source)
    receipt = saved(source, out, lambda key: "net." + key)
    loaded = load_every_way(out)
    expected = {**tensors, "model": {"net." + key: value for key, value in model.items()}}
    assert same(loaded, expected)
    before, after = records(source), records(out)
    assert list(after) == [name for name in before if name != ".data/serialization_id"]
    assert all(after[name] == before[name] for name in after if name != "data.pkl")
    assert receipt.map["0.weight"] == "net.0.weight"
    assert (receipt.written, receipt.dropped, receipt.computed_bytes) == (9, (), 0)


def test_that_a_file_without_edits_comes_out_as_the_same_bytes(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "a.pt")
    saved(tmp_path / "a.pt", tmp_path / "b.pt")
    assert (tmp_path / "b.pt").read_bytes() == (tmp_path / "a.pt").read_bytes()


def test_that_stripping_a_prefix_does_to_metadata_what_torch_does(tmp_path: Path) -> None:
    state_dict = OrderedDict(("module." + key, value) for key, value in network().state_dict().items())
    versions: dict[str, Any] = network().state_dict()._metadata  # type: ignore[attr-defined]
    metadata = {"module." + key if key else "module": version for key, version in versions.items()}
    state_dict._metadata = OrderedDict({"": {"version": 1}} | metadata)  # type: ignore[attr-defined]
    torch.save({"state_dict": state_dict}, tmp_path / "a.pt")
    modules = {"": None, **{name: name[7:] for name in metadata}}
    saved(tmp_path / "a.pt", tmp_path / "b.pt", lambda key: key.removeprefix("module."), modules=modules)
    loaded = torch.load(tmp_path / "b.pt")["state_dict"]
    nn.modules.utils.consume_prefix_in_state_dict_if_present(state_dict, "module.")
    assert loaded._metadata == state_dict._metadata  # type: ignore[attr-defined]
    assert network().load_state_dict(loaded, strict=True)


def test_that_dropped_tensors_take_their_bytes_along_and_others_keep_theirs(tmp_path: Path) -> None:
    tensors = {f"layer.{i}.weight": torch.full((100,), float(i)) for i in range(12)}
    torch.save(tensors, tmp_path / "a.pt")
    saved(tmp_path / "a.pt", tmp_path / "b.pt", {"layer.3.weight": None, "layer.10.weight": None})
    loaded = load_every_way(tmp_path / "b.pt")
    assert same(loaded, {key: value for key, value in tensors.items() if ".3." not in key and ".10." not in key})
    left = records(tmp_path / "b.pt")
    assert "data/3" not in left
    assert "data/10" not in left
    assert left[".format_version"] == b"1"


def test_that_without_the_first_storage_torch_is_told_to_read_headers(tmp_path: Path) -> None:
    tensors = {"first": torch.arange(4.0), "second": torch.arange(5.0), "third": torch.arange(6.0)}
    torch.save(tensors, tmp_path / "a.pt")
    saved(tmp_path / "a.pt", tmp_path / "b.pt", {"first": None})
    assert same(load_every_way(tmp_path / "b.pt"), {key: tensors[key] for key in ("second", "third")})
    assert ".format_version" not in records(tmp_path / "b.pt")


def test_that_storages_move_when_their_first_use_is_dropped(tmp_path: Path) -> None:
    shared = torch.arange(10.0)
    tensors = {"a": torch.ones(3), "b": shared[:4], "c": torch.zeros(2), "d": shared[4:]}
    torch.save(tensors, tmp_path / "a.pt")
    saved(tmp_path / "a.pt", tmp_path / "b.pt", {"b": None})
    assert same(load_every_way(tmp_path / "b.pt"), {key: tensors[key] for key in ("a", "c", "d")})
    names = list(records(tmp_path / "b.pt"))
    assert names[names.index("byteorder") + 1 :] == ["data/0", "data/2", "data/1", "version"]
    assert ".format_version" in names


def test_that_tied_weights_and_views_stay_tied(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.randn(4, 6))
    base = torch.arange(24.0)
    tensors = {
        "embed.weight": weight,
        "head.weight": weight,
        "transposed": weight.detach().t(),
        "slice": base[3:9],
        "strided": base[::5],
        "expanded": torch.ones(1).expand(7),
        "empty": torch.empty(0, 3),
    }
    torch.save(tensors, tmp_path / "a.pt")
    saved(tmp_path / "a.pt", tmp_path / "b.pt", {"embed.weight": None, "head.weight": "lm_head.weight"})
    loaded = load_every_way(tmp_path / "b.pt")
    assert loaded["lm_head.weight"].data_ptr() == loaded["transposed"].data_ptr()
    assert loaded["slice"].untyped_storage().data_ptr() == loaded["strided"].untyped_storage().data_ptr()
    del tensors["embed.weight"]
    assert same(list(loaded.values()), list(tensors.values()))


def test_that_every_kind_of_tensor_survives(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.randn(3))
    parameter.tag = "frozen"  # type: ignore[attr-defined]
    tensors = {
        "half": torch.randn(3).half(),
        "bfloat16": torch.randn(3).bfloat16(),
        "float8": torch.randn(4).to(torch.float8_e4m3fn),
        "uint32": torch.tensor([1, 2**32 - 1], dtype=torch.uint32),
        "complex": torch.randn(3, dtype=torch.complex64).conj(),
        "bool": torch.tensor(True),
        "parameter": parameter,
        "sparse": torch.eye(3).to_sparse(),
        "meta": torch.empty(3, device="meta"),
        "text": "not a tensor",
    }
    torch.save(tensors, tmp_path / "a.pt")
    saved(tmp_path / "a.pt", tmp_path / "b.pt", lambda key: "x." + key)
    loaded = torch.load(tmp_path / "b.pt", weights_only=False)
    assert list(loaded) == ["x." + key for key in tensors]
    assert loaded["x.parameter"].tag == "frozen"
    assert loaded["x.complex"].is_conj()
    assert loaded["x.sparse"].is_sparse
    assert loaded["x.meta"].is_meta
    for key in ("half", "bfloat16", "float8", "uint32", "complex", "bool", "parameter"):
        assert same(loaded["x." + key], tensors[key]), key


def old_layout(path: Path, tensors: dict[str, torch.Tensor], byteorder: bytes | None = None) -> None:
    """A file as torch 1.6 to 2.6 wrote it: records in the order of their names, nothing about alignment."""
    torch.save(tensors, path)
    content = records(path)
    writer = torch._C.PyTorchFileWriter(str(path))
    writer.write_record("data.pkl", content["data.pkl"], len(content["data.pkl"]))
    if byteorder is not None:
        writer.write_record("byteorder", byteorder, len(byteorder))
    for name in sorted(name for name in content if name.startswith("data/")):
        writer.write_record(name, content[name], len(content[name]))
    writer.write_end_of_file()


def test_that_the_old_layout_stays_as_it_was(tmp_path: Path) -> None:
    tensors = {f"w{i}": torch.full((i + 1,), float(i)) for i in range(12)}
    old_layout(tmp_path / "a.pt", tensors)
    saved(tmp_path / "a.pt", tmp_path / "b.pt", {"w0": None, "w5": "renamed"})
    loaded = load_every_way(tmp_path / "b.pt")
    assert same(list(loaded.values()), list(tensors.values())[1:])
    names = [name for name in records(tmp_path / "a.pt") if name not in ("data/0", ".data/serialization_id")]
    assert list(records(tmp_path / "b.pt")) == names


def test_that_a_big_endian_file_keeps_its_bytes_and_its_mark(tmp_path: Path) -> None:
    swapped = torch.arange(3, dtype=torch.int16)
    old_layout(tmp_path / "a.pt", {"a": swapped, "b": swapped + 1}, byteorder=b"big")
    before = torch.load(tmp_path / "a.pt")
    saved(tmp_path / "a.pt", tmp_path / "b.pt", {"a": "x"})
    after = torch.load(tmp_path / "b.pt")
    assert after["x"].tolist() == before["a"].tolist() == [0, 256, 512]
    assert records(tmp_path / "b.pt")["byteorder"] == b"big"


def test_that_a_file_without_checksums_stays_without_and_a_wrong_one_is_kept(tmp_path: Path) -> None:
    with torch.utils.serialization.config.patch({"save.use_pinned_memory_for_d2h": False}):
        torch.serialization.set_crc32_options(False)
        try:
            torch.save({"a": torch.ones(3), "b": torch.ones(4)}, tmp_path / "a.pt")
        finally:
            torch.serialization.set_crc32_options(True)
    saved(tmp_path / "a.pt", tmp_path / "b.pt", {"a": "x"})
    with zipfile.ZipFile(tmp_path / "b.pt") as archive:
        assert all(info.CRC == 0 for info in archive.infolist())
    torch.save({"a": torch.ones(3), "b": torch.ones(4)}, tmp_path / "c.pt")
    data = bytearray((tmp_path / "c.pt").read_bytes())
    at = data.rindex(b"c/data/1") - 46 + 16
    data[at : at + 4] = b"evil"
    (tmp_path / "c.pt").write_bytes(data)
    saved(tmp_path / "c.pt", tmp_path / "d.pt", {"a": "x"})
    with zipfile.ZipFile(tmp_path / "d.pt") as archive:
        crcs = {info.filename: info.CRC for info in archive.infolist()}
    assert crcs["c/data/1"] == int.from_bytes(b"evil", "little")


def test_that_compressed_storages_stay_compressed(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(5000), "b": torch.ones(5000)}
    torch.save(tensors, tmp_path / "a.pt")
    content = records(tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "c.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr("a/" + name, data)
    receipt = saved(tmp_path / "c.pt", tmp_path / "d.pt", {"a": "x"}, ask_torch=True)
    assert same(list(torch.load(tmp_path / "d.pt").values()), list(tensors.values()))
    assert (tmp_path / "d.pt").stat().st_size < 5000
    assert ".format_version" not in records(tmp_path / "d.pt")
    assert receipt.verified is not None
    assert receipt.verified.weights_only is True


def test_that_unknown_records_and_unused_storages_stay(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3), "b": torch.ones(4)}, tmp_path / "a.pt")
    content = records(tmp_path / "a.pt") | {"extra/notes.txt": b"mine", "data/99": b"nobody's", "other.pkl": b""}
    other = pickle.dumps(0)[:-1]  # a pickle that breaks off: what it uses is not known
    for broken in (False, True):
        with zipfile.ZipFile(tmp_path / "c.pt", "w") as archive:
            for name, data in content.items():
                archive.writestr("a/" + name, other if broken and name == "other.pkl" else data or b"N.")
        (tmp_path / "d.pt").unlink(missing_ok=True)
        saved(tmp_path / "c.pt", tmp_path / "d.pt", {"b": None})
        left = records(tmp_path / "d.pt")
        assert left["extra/notes.txt"] == b"mine"
        assert left["data/99"] == b"nobody's"
        assert ("data/1" in left) is broken


def test_that_a_storage_that_another_pickle_of_the_archive_uses_stays(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3), "b": torch.ones(4)}, tmp_path / "a.pt")
    content = records(tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "c.pt", "w") as archive:
        for name, data in (content | {"traced_inputs.pkl": content["data.pkl"]}).items():
            archive.writestr("a/" + name, data)
    saved(tmp_path / "c.pt", tmp_path / "d.pt", {"b": None})
    assert "data/1" in records(tmp_path / "d.pt")


def test_that_unwrapping_leaves_the_state_dict_alone_at_the_root(tmp_path: Path) -> None:
    torch.save({"epoch": 7, "state_dict": network().state_dict(), "ema": {"x": torch.ones(9)}}, tmp_path / "a.pt")
    rest = ("epoch", "ema")
    receipt = saved(tmp_path / "a.pt", tmp_path / "b.pt", unwrap=True, left_out=rest, state_dict="state_dict")
    loaded = load_every_way(tmp_path / "b.pt")
    assert loaded._metadata == network().state_dict()._metadata  # type: ignore[attr-defined]
    network().load_state_dict(loaded, strict=True)
    assert receipt.dropped == rest
    assert "data/9" not in records(tmp_path / "b.pt")


def test_that_unwrapping_with_the_rest_puts_both_at_the_root(tmp_path: Path) -> None:
    nested = {"sd": {"w": torch.ones(2), "gone": torch.ones(1)}, "lr": 0.5}
    torch.save({"epoch": 7, "nest": nested, "tail": torch.zeros(3)}, tmp_path / "a.pt")
    both: dict[str, Any] = {"state_dict": "nest.sd", "unwrap": True, "keep_rest": True}
    saved(tmp_path / "a.pt", tmp_path / "b.pt", {"w": "v", "gone": None}, **both)
    loaded = load_every_way(tmp_path / "b.pt")
    assert same(loaded, {"epoch": 7, "nest": {"lr": 0.5}, "v": torch.ones(2), "tail": torch.zeros(3)})
    with pytest.raises(KeyCollision, match="tail"):
        saved(tmp_path / "a.pt", tmp_path / "c.pt", {"w": "tail"}, **both)
    assert not (tmp_path / "c.pt").exists()
    torch.save({"nest": {"sd": {"w": torch.ones(2)}}}, tmp_path / "d.pt")
    saved(tmp_path / "d.pt", tmp_path / "e.pt", **both)
    assert same(load_every_way(tmp_path / "e.pt"), {"nest": {}, "w": torch.ones(2)})


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def test_that_a_hostile_object_is_neither_run_nor_lost(tmp_path: Path) -> None:
    marker = tmp_path / "it-ran"
    torch.save({"w": torch.ones(2), "evil": Hostile(marker), "later": torch.ones(3)}, tmp_path / "a.pt")
    receipt = saved(tmp_path / "a.pt", tmp_path / "b.pt", {"w": "v"}, ask_torch=True)
    assert not marker.exists()
    before, after = records(tmp_path / "a.pt")["data.pkl"], records(tmp_path / "b.pt")["data.pkl"]
    assert before.replace(b"X\x01\x00\x00\x00wq\x01", b"X\x01\x00\x00\x00v") == after
    assert receipt.verified is not None
    assert receipt.verified.weights_only is False
    assert "posix.system" in receipt.warnings[0].message


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)


def test_that_a_pickled_module_keeps_its_modules_and_may_change_last_components(tmp_path: Path) -> None:
    torch.save(Net(), tmp_path / "a.pt")
    saved(tmp_path / "a.pt", tmp_path / "b.pt", {"fc.weight": "fc.kernel"})
    loaded = torch.load(tmp_path / "b.pt", weights_only=False)
    assert list(loaded.fc._parameters) == ["kernel", "bias"]
    with pytest.raises(RepairError, match="only the last component") as caught:
        saved(tmp_path / "a.pt", tmp_path / "c.pt", {"fc.weight": "linear.weight"})
    assert "`extract`" in caught.value.remedy
    assert caught.value.path == str(tmp_path / "a.pt")
    with pytest.raises(RepairError, match="cannot be unwrapped"):
        saved(tmp_path / "a.pt", tmp_path / "c.pt", unwrap=True)


def test_that_one_object_under_two_names_is_not_edited_under_one(tmp_path: Path) -> None:
    weights = {"w": torch.ones(2)}
    torch.save({"model": weights, "best_model": weights}, tmp_path / "a.pt")
    with pytest.raises(RepairError, match="two names"):
        saved(tmp_path / "a.pt", tmp_path / "b.pt", {"w": "v"}, state_dict="model")
    module = Net()
    module.again = module.fc
    torch.save(module, tmp_path / "c.pt")
    checkpoint = open_checkpoint(tmp_path / "c.pt")
    if "again.weight" in checkpoint.state_dicts[0].keys:
        with pytest.raises(RepairError, match="once, under two names"):
            saved(tmp_path / "c.pt", tmp_path / "d.pt", {"fc.weight": "fc.kernel"})


def test_that_a_pickle_that_cannot_be_written_back_is_copied_and_not_edited(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "n": 1}, tmp_path / "a.pt")
    content = records(tmp_path / "a.pt")
    # One more object below the one that STOP returns: legal, and nothing a rewrite could keep.
    content["data.pkl"] = content["data.pkl"][:2] + b"K\x07" + content["data.pkl"][2:]
    with zipfile.ZipFile(tmp_path / "c.pt", "w") as archive:
        for name, data in content.items():
            archive.writestr("a/" + name, data)
    saved(tmp_path / "c.pt", tmp_path / "d.pt")
    assert (tmp_path / "d.pt").read_bytes() == (tmp_path / "c.pt").read_bytes()
    with pytest.raises(SaveError, match="leaves objects on the stack") as caught:
        saved(tmp_path / "c.pt", tmp_path / "e.pt", {"w": "v"})
    assert caught.value.code == "unfaithful"


def test_that_two_records_of_one_name_are_not_edited(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "n": 1}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "c.pt", "w") as archive:
        for name, data in records(tmp_path / "a.pt").items():
            archive.writestr("a/" + name, data)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a/data/0", bytes(8))
    with pytest.raises(SaveError, match="two records"):
        saved(tmp_path / "c.pt", tmp_path / "d.pt", {"w": "v"})


def test_that_junk_behind_the_pickle_and_other_protocols_are_kept(tmp_path: Path) -> None:
    for protocol in (2, 4, 5):
        torch.save({"w": torch.ones(2), "n": [1, 2]}, tmp_path / "a.pt", pickle_protocol=protocol)
        content = records(tmp_path / "a.pt")
        content["data.pkl"] += b"signed by me"
        with zipfile.ZipFile(tmp_path / "c.pt", "w") as archive:
            for name, data in content.items():
                archive.writestr("a/" + name, data)
        (tmp_path / "d.pt").unlink(missing_ok=True)
        saved(tmp_path / "c.pt", tmp_path / "d.pt", {"w": "v"})
        assert records(tmp_path / "d.pt")["data.pkl"].endswith(b".signed by me")
        assert same(torch.load(tmp_path / "d.pt", weights_only=False), {"v": torch.ones(2), "n": [1, 2]})


def test_that_a_damaged_record_is_named_and_can_be_dropped(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3), "b": torch.ones(4)}, tmp_path / "a.pt")
    data = bytearray((tmp_path / "a.pt").read_bytes())
    at = data.index(b"a/data/1") - 30
    data[at : at + 4] = b"gone"
    (tmp_path / "a.pt").write_bytes(data)
    with pytest.raises(SaveError, match="a/data/1 cannot be copied") as caught:
        saved(tmp_path / "a.pt", tmp_path / "b.pt", {"a": "x"})
    assert caught.value.code == "source_damaged"
    saved(tmp_path / "a.pt", tmp_path / "b.pt", {"b": None})
    assert same(torch.load(tmp_path / "b.pt"), {"a": torch.ones(3)})


def test_that_the_state_dict_may_become_empty(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3), "b": torch.ones(4)}, tmp_path / "a.pt")
    saved(tmp_path / "a.pt", tmp_path / "b.pt", lambda key: None)
    assert torch.load(tmp_path / "b.pt") == {}
    plan = plan_of(open_checkpoint(tmp_path / "a.pt"), lambda key: None)
    assert plan.dropped == (0, 1)


def test_that_a_state_dict_inside_a_renamed_entry_keeps_its_versions(tmp_path: Path) -> None:
    torch.save(
        {"step": torch.tensor(1), "net": network().state_dict(), "ema": network().state_dict()}, tmp_path / "a.pt"
    )
    root = open_checkpoint(tmp_path / "a.pt").state_dicts[0]
    assert root.path == ()
    saved(tmp_path / "a.pt", tmp_path / "b.pt", {"net": "model"}, state_dict="")
    loaded = load_every_way(tmp_path / "b.pt")
    assert list(loaded) == ["step", "model", "ema"]
    assert loaded["model"]._metadata == network().state_dict()._metadata  # type: ignore[attr-defined]
    receipt = saved(tmp_path / "a.pt", tmp_path / "c.pt", state_dict="net", unwrap=True, keep_rest=True)
    loaded = load_every_way(tmp_path / "c.pt")
    assert loaded["ema"]._metadata == network().state_dict()._metadata  # type: ignore[attr-defined]
    assert any("_metadata" in note for note in receipt.notes)


def test_that_a_state_dict_with_versions_may_lose_all_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 2, "net": network().state_dict()}, tmp_path / "a.pt")
    saved(tmp_path / "a.pt", tmp_path / "b.pt", lambda key: None)
    loaded = torch.load(tmp_path / "b.pt")
    assert same(loaded, {"epoch": 2, "net": {}} | {"net": loaded["net"]})
    assert loaded["net"] == {}
    assert loaded["net"]._metadata == network().state_dict()._metadata  # type: ignore[attr-defined]
    assert not any(name.startswith("data/") for name in records(tmp_path / "b.pt"))


def test_that_a_damaged_record_nobody_needs_does_not_stop_a_save(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3), "b": torch.ones(4)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "c.pt", "w") as archive:
        for name, data in (records(tmp_path / "a.pt") | {"data/7": b"orphan"}).items():
            archive.writestr("a/" + name, data)
    data = bytearray((tmp_path / "c.pt").read_bytes())
    at = data.index(b"a/data/7") - 30
    data[at : at + 4] = b"gone"
    (tmp_path / "c.pt").write_bytes(data)
    receipt = saved(tmp_path / "c.pt", tmp_path / "d.pt", {"a": "x"})
    assert "data/7" not in records(tmp_path / "d.pt")
    assert any("a/data/7 left out: it is damaged" in note for note in receipt.notes)
    saved(tmp_path / "c.pt", tmp_path / "e.pt")
    assert (tmp_path / "e.pt").read_bytes() == data


def test_that_a_saved_file_opens_as_fast_as_its_source(tmp_path: Path) -> None:
    torch.save({f"layers.{i}.weight": torch.ones(2) for i in range(300)}, tmp_path / "a.pt")
    saved(tmp_path / "a.pt", tmp_path / "b.pt", lambda key: "net." + key)
    # Tensors that are recognised as records at once; read opcode by opcode they cost ten times as much.
    assert len(open_checkpoint(tmp_path / "a.pt").source.pickle.records) >= 298
    assert len(open_checkpoint(tmp_path / "b.pt").source.pickle.records) >= 298
