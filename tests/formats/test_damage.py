"""What is left of a damaged file is shown, told, measured and saved; what is gone is dropped by name only."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.errors import Cancelled, CorruptCheckpoint, SaveError
from sdviewer.formats import checksum, open_checkpoint, open_storage, tensor_source
from tests.formats.conftest import Member, Save, build_zip, elements, torch_members
from tests.formats.saved_files import saved

Write = Callable[..., Path]

TENSORS = {f"l{i}": torch.full((1000,), float(i)) for i in range(4)}


def cut_at(path: Path, write: Write, where: bytes, *, behind: int = 0, name: str = "cut.pt") -> Path:
    """The file up to `where` and a few bytes further."""
    data = path.read_bytes()
    return write(data[: data.index(where) + behind], name)


def codes(checkpoint: Checkpoint) -> list[str]:
    return [problem.code for problem in checkpoint.problems]


def pickle_of(save: Save, thing: object = None) -> bytes:
    """The object pickle of an honest file."""
    with zipfile.ZipFile(save(TENSORS if thing is None else thing, "honest.pt")) as archive:
        return archive.read("honest/data.pkl")


STORED = {str(i): tensor.numpy().tobytes() for i, tensor in enumerate(TENSORS.values())}


def test_that_the_tensors_before_the_cut_are_read_and_those_behind_it_are_marked(save: Save, write: Write) -> None:
    checkpoint = open_checkpoint(cut_at(save(TENSORS), write, b"model/data/2", behind=500))
    assert [bool(tensor.unreadable) for tensor in checkpoint.tensors] == [False, False, True, True]
    assert elements(checkpoint, 1) == STORED["1"]
    truncated = checkpoint.problems[0]
    assert (truncated.severity, truncated.code, truncated.where) == ("error", "truncated", "model/data/2")
    assert "breaks off in member model/data/2" in truncated.message
    with pytest.raises(CorruptCheckpoint) as caught:
        tensor_source(checkpoint, 2)
    assert caught.value.code == "tensor_unreadable"


def test_that_a_cut_file_is_saved_without_what_is_gone_and_only_when_that_is_dropped(
    save: Save, write: Write, tmp_path: Path
) -> None:
    source = cut_at(save(TENSORS), write, b"model/data/2", behind=500)
    for rename in ({}, {"l0": "first"}):
        with pytest.raises(SaveError, match="l2, l3 cannot be copied") as caught:
            saved(source, tmp_path / "out.pt", rename)
        assert (caught.value.code, caught.value.key) == ("source_damaged", "l2")
        assert not (tmp_path / "out.pt").exists()
    receipt = saved(source, tmp_path / "out.pt", {"l0": "first", "l2": None, "l3": None}, ask_torch=True)
    assert receipt.dropped == ("l2", "l3")
    assert receipt.verified is not None
    assert receipt.verified.weights_only
    assert any("version added" in note for note in receipt.notes)
    loaded = torch.load(tmp_path / "out.pt")
    assert list(loaded) == ["first", "l1"]
    assert torch.equal(loaded["l1"], TENSORS["l1"])
    assert open_checkpoint(tmp_path / "out.pt").problems == ()


def test_that_a_file_that_lost_only_its_directory_is_saved_whole(save: Save, write: Write, tmp_path: Path) -> None:
    source = cut_at(save(TENSORS), write, b"PK\1\2", behind=20)
    checkpoint = open_checkpoint(source)
    assert codes(checkpoint) == ["truncated"]
    assert not any(tensor.unreadable for tensor in checkpoint.tensors)
    saved(source, tmp_path / "out.pt", ask_torch=True)
    assert torch.equal(torch.load(tmp_path / "out.pt")["l3"], TENSORS["l3"])


def test_that_the_search_through_a_cut_archive_is_told_and_can_be_stopped(save: Save, write: Write) -> None:
    source = cut_at(save({"large": torch.zeros(3 << 20)}), write, b"PK\1\2")
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        told.append((done, total))
        if done > total // 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        open_checkpoint(source, progress=progress)
    searched = [done for done, total in told if total == source.stat().st_size]
    assert len(searched) > 5
    assert searched == sorted(searched)


def test_that_a_file_with_a_destroyed_directory_is_read_by_its_members(save: Save, write: Write) -> None:
    data = bytearray(save(TENSORS).read_bytes())
    at = data.index(b"PK\1\2")
    data[at : at + 40] = bytes(40)
    checkpoint = open_checkpoint(write(bytes(data), "bad.pt"))
    assert codes(checkpoint) == ["zip_directory"]
    assert "found one behind the other" in checkpoint.problems[0].message
    assert elements(checkpoint, 3) == STORED["3"]


def test_that_a_cut_archive_of_zipfile_is_read_too(save: Save, write: Write, tmp_path: Path) -> None:
    content = pickle_of(save)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "z.pt", "w", method) as archive:
            archive.writestr("a/data.pkl", content)
            for key, data in STORED.items():
                archive.writestr(f"a/data/{key}", data)
        checkpoint = open_checkpoint(cut_at(tmp_path / "z.pt", write, b"a/data/3"))
        assert [bool(tensor.unreadable) for tensor in checkpoint.tensors] == [False, False, False, True]
        assert elements(checkpoint, 2) == STORED["2"]


def test_that_a_salvaged_member_that_cannot_be_had_is_told(write: Write, save: Save) -> None:
    built = build_zip(torch_members(pickle_of(save, {"w": torch.ones(2)}), {"0": bytes(8)}))
    data = bytearray(built.data[: built.start])
    for name, size in ((b"archive/data.pkl", None), (b"archive/byteorder", 6), (b"archive/data/0", 8)):
        at = data.index(name) - 30
        n = size if size is not None else data.index(b"PK\3\4", at + 1) - at - 30 - len(name)
        data[at + 18 : at + 26] = struct.pack("<LL", n, n if name != b"archive/data/0" else n + 1)
    checkpoint = open_checkpoint(write(bytes(data)))
    assert "stored with 8 bytes and states 9" in checkpoint.tensors[0].unreadable


def test_that_a_wrong_checksum_is_said_when_a_storage_is_checked(save: Save, write: Write) -> None:
    data = bytearray(save(TENSORS).read_bytes())
    at = data.index(STORED["1"])
    data[at + 7] ^= 1
    checkpoint = open_checkpoint(write(bytes(data), "flipped.pt"))
    assert checkpoint.problems == ()  # opening reads no storage
    told = []
    for index in range(4):
        source = tensor_source(checkpoint, index)
        found = checksum(source)
        told.append(found.problem)
        assert found.to_json()["stated"] == checkpoint.storages[str(index)].crc
    assert [bool(words) for words in told] == [False, True, False, False]
    assert "damaged or changed after they were written" in told[1]


def test_that_an_archive_without_checksums_has_none_that_are_wrong(save: Save, write: Write) -> None:
    members = torch_members(pickle_of(save), STORED)
    checkpoint = open_checkpoint(write(build_zip([member._replace(crc=0) for member in members]).data))
    source = tensor_source(checkpoint, 0)
    assert checksum(source).problem == ""
    assert checkpoint.problems == ()


def test_that_a_pickle_with_a_wrong_checksum_is_told_on_opening(save: Save, write: Write) -> None:
    first, *others = torch_members(pickle_of(save), STORED)
    checkpoint = open_checkpoint(write(build_zip([first._replace(crc=1), *others]).data))
    assert codes(checkpoint) == ["checksum"]
    assert checkpoint.problems[0].where == "data.pkl"


def test_that_a_header_that_disagrees_with_the_directory_is_told(save: Save, write: Write) -> None:
    built = build_zip(torch_members(pickle_of(save), STORED))
    for offset, number, says in ((18, 7, "states 7 bytes"), (14, 9, "states 9 as checksum")):
        data = bytearray(built.data)
        at = data.index(b"archive/data/0") - 30
        data[at + offset : at + offset + 4] = struct.pack("<L", number)
        source = tensor_source(open_checkpoint(write(bytes(data))), 0)
        assert says in checksum(source).problem
    data = bytearray(built.data)
    at = data.index(b"archive/data/0")
    data[at : at + 14] = b"archive/data/9"
    source = tensor_source(open_checkpoint(write(bytes(data))), 0)
    assert "calls the member archive/data/9" in checksum(source).problem


def test_that_a_member_whose_own_header_leads_into_the_next_is_not_read(save: Save, write: Write) -> None:
    data = bytearray(build_zip(torch_members(pickle_of(save), STORED)).data)
    at = data.index(b"archive/data/0") - 30
    data[at + 28 : at + 30] = struct.pack("<H", 100)  # an extra field that is not there
    source = tensor_source(open_checkpoint(write(bytes(data))), 0)
    with pytest.raises(CorruptCheckpoint, match="runs into what stands behind it"):
        open_storage(source)


@pytest.mark.parametrize("copies", [2, 3, 4])
def test_that_it_is_said_which_copy_of_a_record_torch_reads(save: Save, write: Write, copies: int) -> None:
    doubles = [Member("archive/data/0", struct.pack("<f", float(i)) * 1000) for i in range(copies)]
    members = [member for member in torch_members(pickle_of(save), STORED) if member.name != "archive/data/0"]
    path = write(build_zip([*members, *doubles]).data)
    checkpoint = open_checkpoint(path)
    (problem,) = checkpoint.problems
    assert (problem.code, problem.where) == ("duplicate_member", "archive/data/0")
    said = int(problem.message.partition("torch reads copy ")[2].partition(",")[0])
    assert float(torch.load(path)["l0"][0]) == said - 1
    assert elements(checkpoint, 0)[:4] == struct.pack("<f", said - 1.0)
    with zipfile.ZipFile(path) as archive:
        assert archive.read("archive/data/0")[:4] == struct.pack("<f", copies - 1.0)
    assert "unzip and Python the last" in problem.message


def test_that_members_that_differ_in_case_are_told(save: Save, write: Write) -> None:
    checkpoint = open_checkpoint(
        write(build_zip([*torch_members(pickle_of(save), STORED), Member("archive/DATA.PKL", b"N.")]).data)
    )
    (problem,) = checkpoint.problems
    assert "archive/data.pkl, archive/DATA.PKL" in problem.message
    assert "differ only in upper and lower case" in problem.message


def test_that_many_doubles_are_counted_and_not_all_listed(save: Save, write: Write) -> None:
    doubles = [Member(f"archive/x{i}", b"") for i in range(150)] * 2
    checkpoint = open_checkpoint(write(build_zip([*torch_members(pickle_of(save), STORED), *doubles]).data))
    assert len(checkpoint.problems) == 101
    assert checkpoint.problems[-1].message.startswith("50 more names")


def test_that_a_member_nobody_needs_and_nobody_can_read_is_told(save: Save, write: Write) -> None:
    extra = Member("archive/extra", b"x", flags=1)
    checkpoint = open_checkpoint(write(build_zip([*torch_members(pickle_of(save), STORED), extra]).data))
    (problem,) = checkpoint.problems
    assert (problem.code, problem.where) == ("zip_member", "archive/extra")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x80\x02}X\2\0\0\0\xff\xfeK\1s.", "text that is not UTF-8 at byte 3"),
        (b"\x80\x02}U\1nI" + b"9" * 5000 + b"\ns.", "a number of 5,000 digits at byte 6"),
        (b"\x80\x05}\x8c\1b\x97s.", "whose bytes are not in the pickle at byte 6"),
    ],
)
def test_that_what_python_refuses_is_told_and_shown(write: Write, data: bytes, says: str) -> None:
    checkpoint = open_checkpoint(write(build_zip(torch_members(data, {})).data))
    (problem,) = checkpoint.problems
    assert problem.code == "python_refuses"
    assert says in problem.message


def test_that_a_short_record_is_kept_from_being_saved_as_if_it_were_whole(
    save: Save, write: Write, tmp_path: Path
) -> None:
    source = write(build_zip(torch_members(pickle_of(save), {**STORED, "1": bytes(10)})).data)
    with pytest.raises(SaveError, match="l1 cannot be copied: its storage is not whole") as caught:
        saved(source, tmp_path / "out.pt", {"l0": "x"})
    assert caught.value.code == "source_damaged"
    saved(source, tmp_path / "out.pt", {"l1": None})
    assert list(torch.load(tmp_path / "out.pt")) == ["l0", "l2", "l3"]


def test_that_many_damaged_tensors_are_counted(save: Save, write: Write, tmp_path: Path) -> None:
    many = {f"l{i}": torch.ones(10) for i in range(30)}
    source = write(build_zip(torch_members(pickle_of(save, many), {})).data)
    with pytest.raises(SaveError, match="and 20 more cannot be copied: 30 storages"):
        saved(source, tmp_path / "out.pt", {"l0": "x"})
