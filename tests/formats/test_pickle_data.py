"""A large pickle is parsed without its long constants, and every byte of them is still found."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass

import pytest

from sdviewer.core.progress import no_progress
from sdviewer.formats.pickle_data import PickleData, read_pickle_data
from sdviewer.pickles.machine import parse
from sdviewer.pickles.nodes import Const, Node, children


@dataclass
class Bytes:
    data: bytes
    path: str = "x"
    most: int = 0

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, length: int) -> bytes:
        assert 0 <= start <= start + length <= len(self.data)
        self.most += length
        return self.data[start : start + length]


def skim(data: bytes) -> PickleData:
    return read_pickle_data(Bytes(data), no_progress, small_file=0)


def constants(data: PickleData) -> list[Const]:
    """All constants of the first pickle, in the order of the stream."""
    root = parse(data.data).root
    assert root is not None
    found: list[Const] = []
    todo: list[Node] = [root]
    for node in todo:
        todo.extend(children(node))
        if isinstance(node, Const):
            found.append(node)
    return sorted(found, key=lambda node: node.at)


LONG = bytes(range(256)) * 300
THINGS = [b"short", LONG, "é" * 40_000, {"a": LONG[1:], "b": [1, 2.5, None]}, LONG[7:], b"end", 1 << 600_000]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_that_long_constants_are_cut_and_found(protocol: int) -> None:
    data = pickle.dumps(THINGS, protocol)
    cut = skim(data)
    assert len(cut.data) < 150_000 < len(data)
    texts = []
    for node in constants(cut):
        if isinstance(node.value, bytes):
            where = cut.bytes_of(node)
            assert where is not None
            start, length = where
            texts.append(data[start : start + length])
        elif isinstance(node.value, str):
            text = cut.text_of(node)
            assert text is not None
            texts.append(data[text.start : text.start + text.length].decode())
        else:
            assert data[cut.in_file(node.at) :].startswith(node.raw)
    assert texts == [b"short", LONG, "é" * 40_000, "a", LONG[1:], "b", LONG[7:], b"end"]


def test_that_the_long_ones_are_not_read() -> None:
    big = bytes(3 << 20)
    data = pickle.dumps([big, big[1:], "x"], 4)
    file = Bytes(data)
    read_pickle_data(file, no_progress, small_file=0)
    assert file.most < 2 << 20 < len(data) // 2


def test_that_a_frame_larger_than_a_piece_is_read_through() -> None:
    things = [f"{i:06}" for i in range(60_000)]
    inside = pickle.dumps(things, 4)
    out = bytearray(b"\x80\4\x95")
    body = b"".join([b"X" + len(t).to_bytes(4, "little") + t.encode() for t in things])
    body = b"(" + body + b"C\4last" + b"B" + len(LONG).to_bytes(4, "little") + LONG + b"l."
    out += len(body).to_bytes(8, "little") + body
    for data in (inside, bytes(out)):
        cut = skim(data)
        found = constants(cut)
        assert [node.value for node in found][: len(things)] == things
        assert all(data[cut.in_file(node.at) :].startswith(node.raw) for node in found[: len(things)])
    assert cut.bytes_of(found[-1]) == (len(out) - len(LONG) - 2, len(LONG))


def test_that_text_protocols_go_through_with_lines_longer_than_a_piece() -> None:
    things = ["x" * 700_000, 5, "y"]
    cut = skim(pickle.dumps(things, 0))
    assert [node.value for node in constants(cut)] == things


@pytest.mark.parametrize("end", [b"\xfe junk" * 50_000, b"B\xff\xff\xff\x7f" + bytes(300_000), b"X\0\0"])
def test_that_a_broken_end_is_left_for_the_machine_to_see(end: bytes) -> None:
    from sdviewer.pickles.machine import parse_partial

    head = pickle.dumps([1, LONG], 3)[:-1]
    whole, cut = parse_partial(head + end), skim(head + end)
    found = parse_partial(cut.data)
    assert found.broken.partition(": ")[2] == whole.broken.partition(": ")[2]
    assert cut.in_file(found.end) == whole.end


def test_that_several_pickles_stay_several() -> None:
    file = io.BytesIO()
    for thing in (LONG, "second", LONG):
        pickle.dump(thing, file, 4)
    cut = skim(file.getvalue())
    first = parse(cut.data)
    second = parse(cut.data, first.end)
    assert isinstance(second.root, Const)
    assert second.root.value == "second"
    assert cut.bytes_of(parse(cut.data, second.end).root) is not None  # type: ignore[arg-type]
