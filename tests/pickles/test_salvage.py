"""What is left of a pickle that was cut."""

from __future__ import annotations

import collections
import pickle
from typing import Any

import pytest

from sdviewer.pickles.machine import parse_partial
from sdviewer.pickles.nodes import Const, Group, Node, elements, pairs
from sdviewer.pickles.salvage import salvage


def plain(node: Node | None) -> Any:
    """Dicts, lists and constants of a node graph as Python's own."""
    if isinstance(node, Const):
        return node.value
    if isinstance(node, Group) and node.type != "dict":
        return [plain(item) for _, item in elements(node)]
    return {plain(key): plain(value) for _, key, value in pairs(node)} if node is not None else None


def is_part(part: Any, whole: Any) -> bool:
    """Whether a salvaged thing is a beginning of the whole; the last thing in it may be cut itself."""
    if isinstance(whole, dict):
        return list(whole)[: len(part)] == list(part) and all(is_part(part[key], whole[key]) for key in part)
    if isinstance(whole, list | tuple):
        return len(part) <= len(whole) and all(map(is_part, part, whole))
    return bool(part == whole)


THINGS = {"a": 1, "list": [1, 2, [3, "x"]], "nested": {"b": 2.5, "c": {"d": "deep", "e": 7}, "f": None}, "last": "end"}


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_that_what_stands_before_a_cut_is_kept(protocol: int) -> None:
    data = pickle.dumps(THINGS, protocol)
    found = []
    for length in range(len(data)):
        cut = salvage(parse_partial(data[:length]))
        assert cut.broken
        if cut.root is not None:
            found.append(plain(cut.root))
            assert is_part(found[-1], THINGS), (length, found[-1])
    assert found[-1] == THINGS
    assert len({str(part) for part in found}) >= 8


def test_that_a_call_under_way_is_left_out() -> None:
    things = collections.OrderedDict(a=1, b=collections.OrderedDict(c=2), d=complex(1, 2))
    data = pickle.dumps(things, 2)
    at = data.index(b"complex")
    cut = salvage(parse_partial(data[: at + 12]))
    assert plain(cut.root) == {"a": 1, "b": {"c": 2}}


def test_that_what_was_to_be_called_with_lost_arguments_is_left_out() -> None:
    cut = salvage(parse_partial(b"\x80\2}(X\1\0\0\0aK\1X\1\0\0\0bcm\nf\n)R(K\1K\2"))
    assert plain(cut.root) == {"a": 1}


def test_that_a_text_pickle_is_kept_too() -> None:
    data = pickle.dumps({"a": 1, "b": {"c": 2}}, 0)
    assert plain(salvage(parse_partial(data[: data.index(b"I2")])).root) == {"a": 1, "b": {}}
    assert plain(salvage(parse_partial(data[:-2])).root) == {"a": 1, "b": {"c": 2}}


def test_that_a_damaged_pickle_is_not_taken_for_a_cut_one() -> None:
    broken = salvage(parse_partial(pickle.dumps([1, 2, 3], 2)[:-2] + b"\xfe."))
    assert broken.root is None


def test_that_a_frame_longer_than_the_file_hides_nothing() -> None:
    data = bytearray(pickle.dumps([1, "two"], 4))
    data[3:11] = (1 << 62).to_bytes(8, "little")
    cut = salvage(parse_partial(bytes(data)))
    assert plain(cut.root) == [1, "two"]
    assert "frame" in cut.broken
