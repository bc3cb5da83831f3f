"""The scan gets every pickle of a file, wherever it lies, and nothing that is none."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdviewer.errors import UnknownFormat
from sdviewer.formats.pickle_streams import pickle_streams
from sdviewer.formats.scanning import scan_file
from sdviewer.pickles.scan import Scan
from tests.formats.conftest import Member, Save, build_zip

Write = Callable[..., Path]

EVIL = b"\x80\2cposix\nsystem\nX\4\0\0\0true\x85R."


def scan(path: Path) -> Scan:
    return scan_file(str(path))


def archive(thing: Any, **options: Any) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save(thing, file, **options)
    return file.getvalue()


@pytest.mark.parametrize("method", [0, 8])
def test_that_a_pickle_in_an_archive_in_an_archive_is_found(write: Write, method: int) -> None:
    inner = build_zip([Member("a/data.pkl", b"\x80\2N."), Member("a/hidden", EVIL, method=method)]).data
    outer = build_zip([Member("m/data.pkl", b"\x80\2N."), Member("m/extra/x", inner, method=method)]).data
    found = scan(write(outer))
    assert (found.verdict, found.pickles) == ("dangerous", 3)
    assert found.globals[0].where[0].startswith("m/extra/x/a/hidden:")


def test_that_a_legacy_stream_in_a_member_is_read_whole(write: Write) -> None:
    legacy = archive([1], _use_new_zipfile_serialization=False)
    at = legacy.index(pickle.dumps([1], 2)[2:5])
    evil = legacy[:at] + EVIL[2:] + legacy[at + 8 :]
    outer = build_zip([Member("m/data.pkl", b"\x80\2N."), Member("m/weights", evil)]).data
    assert scan(write(outer)).verdict == "dangerous"


def test_that_archives_in_archives_without_end_are_given_up(write: Write) -> None:
    data = EVIL
    for _ in range(12):
        data = build_zip([Member("a/inner", data)]).data
    found = scan(write(build_zip([Member("m/data.pkl", b"\x80\2N."), Member("m/x", data)]).data))
    assert found.verdict != "clean"
    assert not found.complete


def test_that_all_pickles_behind_one_another_are_found(write: Write) -> None:
    assert scan(write(pickle.dumps([1]) + pickle.dumps([2], 0) + EVIL)).verdict == "dangerous"
    plain = scan(write(pickle.dumps([1]) + b"\0\1\2 no pickle"))
    assert (plain.verdict, plain.pickles) == ("clean", 1)
    cut = scan(write(pickle.dumps([1]) + EVIL[:-1]))
    assert (cut.verdict, cut.complete) == ("dangerous", False)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_that_pickles_of_every_protocol_are_scanned_and_refused_by_torch(write: Write, protocol: int) -> None:
    found = scan(write(pickle.dumps({"a": [1, 2.5, "x"]}, protocol)))
    assert (found.verdict, found.weights_only_would_load) == ("clean", False)


def test_that_the_tensors_in_a_pickle_are_scanned_inside(write: Write) -> None:
    import torch

    data = pickle.dumps({"w": torch.ones(2)}, 4)
    assert scan(write(data)).verdict == "clean"
    at = data.index(b"\x80\x02}q\x00(X\x10\x00\x00\x00protocol_version")
    length = data.index(b".", at) + 1 - at
    evil = EVIL[:-1] + b"0" + b"(lq\0" + b"N" * (length - len(EVIL) - 5) + b"."
    assert len(evil) == length
    assert scan(write(data[:at] + evil + data[at + length :])).verdict == "dangerous"


def test_that_the_numbers_of_an_archive_are_not_read(save: Save) -> None:
    import torch

    path = save({"w": torch.zeros(100_000)})
    streams = pickle_streams(path)
    assert [stream.name.partition("/")[2] for stream in streams] == ["data.pkl"]
    assert not streams[0].refused


def test_that_a_text_has_no_pickles(write: Write) -> None:
    with pytest.raises(UnknownFormat):
        pickle_streams(write(b"hello, this is no checkpoint\n"))
