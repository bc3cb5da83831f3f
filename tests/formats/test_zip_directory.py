from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats import open_checkpoint
from sdviewer.formats.zip_directory import ZipDirectory, inflate, payload_offset, read_directory, read_member
from tests.formats.conftest import Member, Save, build_zip, elements, torch_members

Write = Callable[..., Path]


class Bytes:
    """A file in memory that counts how often it is read."""

    path = "model.pt"

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.reads = 0

    def read(self, start: int, length: int) -> bytes:
        assert 0 <= start <= start + length <= self.size
        self.reads += 1
        return self.data[start : start + length]


def directory_of(*members: Member, **options: object) -> tuple[Bytes, ZipDirectory]:
    file = Bytes(build_zip(members, **options).data)  # type: ignore[arg-type]
    return file, read_directory(file)


def codes(directory: ZipDirectory) -> list[str]:
    return [problem.code for problem in directory.problems]


def test_that_the_directory_agrees_with_zipfile(save: Save) -> None:
    import torch

    path = save({f"layer{i}.weight": torch.ones(i + 1) for i in range(40)})
    directory = read_directory(Bytes(path.read_bytes()))
    with zipfile.ZipFile(path) as archive:
        expected = [
            (info.filename, info.header_offset, info.compress_size, info.file_size, info.CRC, info.compress_type)
            for info in archive.infolist()
        ]
    assert [tuple(entry[:6]) for entry in directory.entries] == expected
    assert directory.top == "model"
    assert directory.problems == []


def test_that_opening_reads_no_local_headers() -> None:
    members = [Member(f"a/data/{i}", b"x" * 8) for i in range(300)]
    file, directory = directory_of(*members)
    assert len(directory.entries) == 300
    assert file.reads < 8


def test_that_names_are_found_without_regard_to_case() -> None:
    _, directory = directory_of(Member("A/DATA.PKL", b"1"), Member("A/x", b"2"))
    entry = directory.find("a/data.pkl")
    assert entry is not None
    assert entry.name == "A/DATA.PKL"
    assert directory.find("a/data.pk") is None


@pytest.mark.parametrize("copies", [2, 3, 4, 5, 7])
@pytest.mark.parametrize("others", [0, 1, 6])
def test_that_of_equal_names_the_copy_is_read_that_torch_reads(
    save: Save, write: Write, copies: int, others: int
) -> None:
    import torch

    original = save({"w": torch.zeros(1), **{f"x{i}": torch.zeros(1) for i in range(others)}}, "original.pt")
    with zipfile.ZipFile(original) as archive:
        members = [Member(info.filename, archive.read(info)) for info in archive.infolist()]
    doubled = []
    for member in members:
        numbers = [float(i) for i in range(copies)] if member.name.endswith("data/0") else []
        doubled += [member._replace(data=struct.pack("<f", number)) for number in numbers] or [member]
    path = write(build_zip(doubled).data)
    checkpoint = open_checkpoint(path)
    assert "duplicate_member" in [problem.code for problem in checkpoint.problems]
    assert struct.unpack("<f", elements(checkpoint, 0))[0] == torch.load(path, weights_only=True)["w"].item()


def test_that_a_deflated_member_is_inflated_and_its_size_is_checked() -> None:
    text = b"abc" * 100_000
    file, directory = directory_of(Member("a/x", text, method=8))
    assert read_member(file, directory, directory.entries[0], 1 << 20) == text
    with pytest.raises(CorruptCheckpoint, match="claims 300,000 bytes"):
        read_member(file, directory, directory.entries[0], 1000)


@pytest.mark.parametrize("stated", [10, 299_999, 300_001, 1 << 31])
def test_that_a_deflated_member_that_lies_about_its_size_is_refused(stated: int) -> None:
    file, directory = directory_of(Member("a/x", b"abc" * 100_000, method=8, usize=stated))
    with pytest.raises(CorruptCheckpoint):
        read_member(file, directory, directory.entries[0], 1 << 40)


def test_that_a_bomb_is_given_up_when_it_exceeds_what_it_states() -> None:
    file, directory = directory_of(Member("a/x", bytes(50_000_000), method=8, usize=1000))
    entry = directory.entries[0]
    given = 0
    with pytest.raises(CorruptCheckpoint, match="holds more than the 1,000 bytes"):
        for piece in inflate(file, entry, payload_offset(file, entry, directory.start)):
            given += len(piece)
    assert given <= 1000


def test_that_broken_compressed_data_are_refused() -> None:
    file, directory = directory_of(Member("a/x", b"\xff" * 50, method=8, local_method=8))
    start = payload_offset(file, directory.entries[0], directory.start)
    file.data = file.data[:start] + b"\xff" * 4 + file.data[start + 4 :]
    with pytest.raises(CorruptCheckpoint, match="are broken"):
        read_member(file, directory, directory.entries[0], 1000)


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (Member("a/x", b"1234", flags=0x1), "encrypted"),
        (Member("a/x", b"1234", flags=0x20), "encrypted"),
        (Member("a/x", b"1234", flags=0x40), "encrypted"),
        (Member("a/x", b"1234", method=12), "method 12"),
        (Member("a/x", b"1234", method=14), "method 14"),
        (Member("a/x", b"1234", csize=3), "is stored with 3 bytes and states 4"),
        (Member("a/x", b"1234", csize=1 << 30, usize=1 << 30), "runs out"),
        (Member("a/x", b"1234", offset=1 << 30), "runs out"),
    ],
)
def test_that_a_member_that_cannot_be_had_is_named_and_the_others_are_read(member: Member, why: str) -> None:
    file, directory = directory_of(Member("a/first", b"ok"), member)
    assert why in directory.unreadable[1]
    with pytest.raises(CorruptCheckpoint, match=why):
        read_member(file, directory, directory.entries[1], 1 << 40)
    assert read_member(file, directory, directory.entries[0], 100) == b"ok"


def test_that_members_on_the_same_bytes_are_told() -> None:
    _, directory = directory_of(Member("a/x", b"12345678"), Member("a/y", b"12345678", offset=0))
    assert codes(directory) == ["zip_overlap"]
    assert set(directory.unreadable) == {0, 1}


def test_that_a_local_header_of_another_method_is_refused_when_the_member_is_read() -> None:
    file, directory = directory_of(Member("a/x", b"12345678", local_method=8))
    with pytest.raises(CorruptCheckpoint, match="method 0 in the directory and 8"):
        read_member(file, directory, directory.entries[0], 100)


def test_that_a_member_without_local_header_is_refused_when_it_is_read() -> None:
    file, directory = directory_of(Member("a/x", b"12345678"), Member("a/y", b"", offset=7))
    with pytest.raises(CorruptCheckpoint):
        read_member(file, directory, directory.entries[1], 100)


@pytest.mark.parametrize("count", [0, 1, 60_000])
def test_that_a_wrong_count_in_the_end_record_hides_no_member(count: int) -> None:
    _, directory = directory_of(Member("a/x", b"1"), Member("a/y", b"2"), Member("a/z", b"3"), count=count)
    assert [entry.name for entry in directory.entries] == ["a/x", "a/y", "a/z"]
    assert codes(directory) == ["zip_count"]


def test_that_a_comment_is_no_damage_and_bytes_behind_the_end_are_told() -> None:
    built = build_zip([Member("a/x", b"1")], comment=b"hello")
    assert read_directory(Bytes(built.data)).problems == []
    for junk, says in ((b"\0" * 100, "torch opens it"), (b"\0" * 70_000, "torch refuses it")):
        directory = read_directory(Bytes(built.data + junk))
        assert len(directory.entries) == 1
        assert says in directory.problems[0].message


def test_that_an_archive_behind_something_else_is_refused() -> None:
    built = build_zip([Member("a/x", b"1")])
    with pytest.raises(CorruptCheckpoint, match="does not begin where"):
        read_directory(Bytes(built.data + built.data))


def test_that_sizes_and_offsets_of_64_bits_are_read_and_checked() -> None:
    wide = struct.pack("<HH3Q", 1, 24, 4, 4, 0)
    _, directory = directory_of(
        Member("a/x", b"1234", csize=0xFFFFFFFF, usize=0xFFFFFFFF, offset=0xFFFFFFFF, extra=wide)
    )
    assert directory.entries[0][1:4] == (0, 4, 4)
    assert directory.unreadable == {}
    huge = struct.pack("<HH3Q", 1, 24, 1 << 63, 1 << 63, 1 << 62)
    _, directory = directory_of(
        Member("a/x", b"1234", csize=0xFFFFFFFF, usize=0xFFFFFFFF, offset=0xFFFFFFFF, extra=huge)
    )
    assert 0 in directory.unreadable


def test_that_every_number_of_the_end_record_may_be_a_lie() -> None:
    built = build_zip([Member("a/x", b"1234"), Member("a/y", b"5678")])
    end = len(built.data) - 22
    for at in range(end + 4, end + 20, 2):
        for number in (0, 1, 0x7FFF, 0xFFFF):
            data = bytearray(built.data)
            data[at : at + 2] = struct.pack("<H", number)
            try:
                read_directory(Bytes(bytes(data)))
            except CorruptCheckpoint:
                continue


def test_that_every_byte_of_the_directory_may_be_damaged() -> None:
    built = build_zip(torch_members(pickle.dumps({"a": 1}, 2), {"0": b"1234"}))
    for at in range(built.start, built.start + built.size):
        for flip in (0xFF, 0x01):
            data = bytearray(built.data)
            data[at] ^= flip
            file = Bytes(bytes(data))
            try:
                directory = read_directory(file)
            except CorruptCheckpoint:
                continue
            for entry in directory.entries:
                try:
                    read_member(file, directory, entry, 1 << 20)
                except CorruptCheckpoint:
                    continue


def test_that_a_name_that_is_no_utf8_keeps_its_bytes() -> None:
    name = b"a/\xff\xfe".decode("utf-8", "surrogateescape")
    _, directory = directory_of(Member(name, b"1"))
    assert directory.entries[0].name.encode("utf-8", "surrogateescape") == b"a/\xff\xfe"


def test_that_a_file_that_breaks_off_shows_what_is_whole(save: Save, write: Write) -> None:
    import torch

    path = save({f"layer{i}": torch.full((50,), float(i)) for i in range(6)})
    whole = open_checkpoint(path)
    data = path.read_bytes()
    cut = write(data[: data.index(b"/data/4") + 200], "cut.pt")
    checkpoint = open_checkpoint(cut)
    assert [tensor.path for tensor in checkpoint.tensors] == [tensor.path for tensor in whole.tensors]
    readable = [not tensor.unreadable for tensor in checkpoint.tensors]
    assert readable == [True, True, True, True, False, False]
    assert elements(checkpoint, 3) == elements(whole, 3)
    assert checkpoint.problems[0].code == "truncated"
    assert checkpoint.problems[0].severity == "error"
