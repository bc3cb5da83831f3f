"""Whatever is in a file, reading it ends: in a checkpoint or in one of our errors, in little memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.errors import OpenError, SDViewerError
from sdviewer.formats import open_checkpoint
from sdviewer.pickles.machine import parse_partial
from sdviewer.pickles.nodes import Const, Group, Node, elements, pairs
from tests.formats.conftest import Member, build_zip
from tests.hostility.mutations import MEMORY, TARGETS, Outcome, Target, attempt, file_of

ROOT = Path(__file__).resolve().parents[2]
INPUTS = 20_000


def child(module: str, *arguments: str) -> dict[str, Any]:
    """The JSON that a process of this folder prints."""
    command = [sys.executable, "-W", "ignore", "-P", "-m", f"tests.hostility.{module}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def test_that_damaged_inputs_end_in_a_result_or_in_an_error() -> None:
    found = child("mutations", str(INPUTS))
    assert found["failures"] == []
    assert found["inputs"] >= INPUTS
    assert found["grown"] < MEMORY
    # Enough of them came through to the end, so that the damage was not all in the first bytes.
    reached = {"directory: directory", "pickle: clean", "legacy: opened", "safetensors: opened", "formats: opened"}
    assert all(found["said"][said] > 300 for said in reached)


def test_that_the_worst_inputs_by_design_end_too() -> None:
    found = child("bombs", "5000")["bombs"]
    assert len(found) > 80
    bad = {name: told["end"] for name, told in found.items() if told["end"].startswith(("died", "failed", "out of"))}
    assert bad == {}


def test_that_an_error_nobody_foresaw_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "broken", Target(lambda data: data[5:6].decode("ascii"), list))
    outcome = Outcome()
    for data in (b"", b"hello\xff"):
        attempt("broken", data, outcome)
    assert [failure["data"] for failure in outcome.failures] == [b"hello\xff".hex()]


# Pickles of data: what Python loads, the machine reads, and as the same thing.

_ATOMS = st.one_of(
    st.sampled_from([b"N", b"\x88", b"\x89", b")", b"I01\n", b"K\x07", b"J\xff\xff\xff\xff", b"\x8a\x00", b"L5L\n"]),
    st.text(max_size=3).map(lambda text: b"X" + struct.pack("<I", len(text.encode())) + text.encode()),
    st.binary(max_size=3).map(lambda data: b"C" + bytes([len(data)]) + data),
    st.floats(allow_nan=False).map(lambda value: b"G" + struct.pack(">d", value)),
)


@st.composite
def data_pickles(draw: st.DrawFn) -> bytes:  # noqa: C901
    """Opcodes that make and change containers, with the stack kept as deep as each of them needs."""
    out = bytearray(draw(st.sampled_from([b"", b"\x80\x02", b"\x80\x04"])))
    stack: list[str] = []
    marks: list[list[str]] = []
    slots: dict[int, str] = {}
    for _ in range(draw(st.integers(1, 25))):
        choices = ["atom", "list", "dict", "mark"]
        if stack:
            choices += ["put", "memoize", "pop", "dup", "tuple1"]
            choices += {"list": ["append"] * 2, "dict": ["setitem"] * 2}.get(stack[-1], [])
        if len(stack) > 1:
            choices += ["tuple2"]
        if slots:
            choices += ["get"] * 2
        if marks:
            choices += ["tuple", "listmark", "pop_mark"]
            choices += ["appends"] if marks[-1][-1:] == ["list"] else []
        match draw(st.sampled_from(choices)):
            case "atom":
                out += draw(_ATOMS)
                stack.append("atom")
            case "list" | "dict" as kind:
                out += b"]" if kind == "list" else b"}"
                stack.append(kind)
            case "mark":
                out += b"("
                marks.append(stack)
                stack = []
            case "put":
                slot = draw(st.integers(0, 3))
                out += draw(st.sampled_from([b"q%c" % slot, b"r" + struct.pack("<I", slot), b"p%d\n" % slot]))
                slots[slot] = stack[-1]
            case "memoize":
                out += b"\x94"
                slots[len(slots)] = stack[-1]
            case "get":
                slot = draw(st.sampled_from(sorted(slots)))
                out += draw(st.sampled_from([b"h%c" % slot, b"j" + struct.pack("<I", slot), b"g%d\n" % slot]))
                stack.append(slots[slot])
            case "pop":
                out += b"0"
                stack.pop()
            case "dup":
                out += b"2"
                stack.append(stack[-1])
            case "tuple1":
                out += b"\x85"
                stack[-1] = "atom"
            case "tuple2":
                out += b"\x86"
                stack[-2:] = ["atom"]
            case "append":
                out += draw(_ATOMS) + b"a"
            case "setitem":
                out += draw(_ATOMS) + draw(_ATOMS) + b"s"
            case "tuple" | "listmark" as kind:
                out += b"t" if kind == "tuple" else b"l"
                stack = [*marks.pop(), "atom" if kind == "tuple" else "list"]
            case "pop_mark":
                out += b"1"
                stack = marks.pop()
            case _:
                out += b"e"
                stack = marks.pop()
    return bytes(out + (b"" if stack else b"N") + b".")


def value_of(node: Node | None) -> Any:
    """What a node of a pickle of data stands for."""
    if isinstance(node, Const):
        return node.value
    assert isinstance(node, Group)
    if node.type == "dict":
        return {value_of(key): value_of(value) for _, key, value in pairs(node)}
    items = [value_of(item) for _, item in elements(node)]
    return tuple(items) if node.type == "tuple" else items


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data_pickles(), st.binary(max_size=4))
def test_that_what_python_loads_is_read_as_the_same(data: bytes, behind: bytes) -> None:
    stream = io.BytesIO(data + behind)
    try:
        loaded = pickle.Unpickler(stream).load()
    except Exception:  # whatever Python refuses may be read or not
        parse_partial(data + behind)
        return
    found = parse_partial(data + behind)
    assert found.broken == ""
    assert found.end == len(data)
    try:
        text = repr(value_of(found.root))
    except RecursionError:
        assert "..." in repr(loaded)
    else:
        assert text == repr(loaded)


@settings(max_examples=500, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"PK\3\4", b"PK\5\6", b"\x80\x02", b"\x80\x04\x95", b"\xff\0\0\0\0\0\0\0{"]),
)
def test_that_any_bytes_end_in_a_checkpoint_or_an_error(data: bytes, first: bytes) -> None:
    with file_of(first + data) as path:
        try:
            assert isinstance(open_checkpoint(path), Checkpoint)
        except OpenError as error:
            assert error.code
            assert str(error).isprintable()


_NUMBERS = st.one_of(st.none(), st.integers(0, 400), st.sampled_from([2**31, 2**32 - 1, 2**32 - 2]))
_MEMBERS = st.builds(
    Member,
    name=st.sampled_from(
        ["a/data.pkl", "a/version", "a/byteorder", "a/data/0", "a/DATA.PKL", "b/x", "", "a/\udcff", "a/\0"]
    ),
    data=st.sampled_from([b"", b"3\n", b"\x80\x02}.", b"little", bytes(16), b"\x80\x02cos\nsystem\n."]),
    method=st.sampled_from([0, 0, 0, 8, 12]),
    flags=st.sampled_from([0, 0, 1, 8, 0x800]),
    crc=_NUMBERS,
    csize=_NUMBERS,
    usize=_NUMBERS,
    local_method=st.sampled_from([None, None, 8]),
    offset=_NUMBERS,
    extra=st.sampled_from([b"", b"\1\0\x10\0" + b"\xff" * 16, b"\1\0\x08\0", b"FB"]),
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(_MEMBERS, max_size=6), st.one_of(st.none(), st.integers(0, 65535)))
def test_that_an_archive_may_lie_in_every_number(members: list[Member], count: int | None) -> None:
    with file_of(build_zip(members, count=count).data) as path:
        try:
            checkpoint = open_checkpoint(path)
        except SDViewerError as error:
            assert str(error).isprintable()
        else:
            assert all(problem.message.isprintable() for problem in checkpoint.problems)
