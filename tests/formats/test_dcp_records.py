from __future__ import annotations

import pickle
import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from sdviewer.core.progress import no_progress
from sdviewer.errors import Cancelled, CorruptCheckpoint
from sdviewer.formats.dcp_metadata import DcpMetadata, read_metadata
from sdviewer.formats.dcp_records import read_records

DTYPES = [torch.float32, torch.bfloat16, torch.int64, torch.float8_e4m3fn, torch.bool]
NAMES = st.one_of(
    st.text("ab.0_", min_size=1, max_size=12),
    st.text(min_size=1, max_size=8),
    st.sampled_from(["a — b", "\x94", "x" * 300, "u(", "layer." * 60]),  # a dash has the byte of MEMOIZE in it
)


def metadata(names: list[str], seed: int, *, parts: int = 1, planner: bool = True, shared: bool = False) -> Metadata:
    """A description of tensors and objects of these names, with random sizes, dtypes, parts and places."""
    rng = random.Random(seed)
    described: dict[str, Any] = {}
    paths: dict[str, tuple[str | int, ...]] = {}
    places: dict[MetadataIndex, _StorageInfo] = {}

    def place(index: MetadataIndex) -> None:
        file = f"__{rng.randrange(3)}_0.distcp"
        places[index] = _StorageInfo(file, rng.choice([0, 200, 60_000, 2**33]), rng.choice([0, 1261, 2**35]))

    for name in dict.fromkeys(names):
        paths[name] = tuple(rng.choice([["model", name], ["optim", "state", rng.randrange(300), name], [name]]))
        if rng.random() < 0.2:
            described[name] = BytesStorageMetadata()
            place(MetadataIndex(name))
            continue
        size = torch.Size([rng.choice([0, 1, 7, 300, 70_000, 2**31, 2**40]) for _ in range(rng.randrange(6))])
        chunks = []
        for i in range(rng.randrange(1, parts + 1)):
            offsets = torch.Size([rng.choice([0, 5, 2**32]) for _ in size])
            chunks.append(ChunkStorageMetadata(offsets, size if shared else torch.Size(list(size))))
            place(MetadataIndex(name, offsets, i))
        properties = TensorProperties(rng.choice(DTYPES), requires_grad=rng.random() < 0.5)
        described[name] = TensorStorageMetadata(properties, size, chunks)
    return Metadata(described, paths if planner else None, places, StorageMeta("run"), "1.0.0")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(NAMES, max_size=25),
    st.integers(0, 1 << 30),
    st.integers(1, 5),
    st.booleans(),
    st.booleans(),
    st.sampled_from([4, 5]),
)
def test_that_records_say_what_the_machine_says(
    names: list[str], seed: int, parts: int, planner: bool, shared: bool, protocol: int
) -> None:
    data = pickle.dumps(metadata(names, seed, parts=parts, planner=planner, shared=shared), protocol)
    quick = read_records(data, no_progress)
    assert quick is None or quick == read_metadata(data, no_progress)


@pytest.mark.parametrize("n", [1, 2, 1000, 1001])
@pytest.mark.parametrize("parts", [1, 3])
def test_that_what_torch_writes_is_read_by_records_whatever_its_batches(n: int, parts: int) -> None:
    """The pickler begins a new batch after a thousand pairs and a new frame after 64 KiB."""
    data = pickle.dumps(metadata([f"model.layers.{i}.weight" for i in range(n)], n, parts=parts))
    quick = read_records(data, no_progress)
    assert quick is not None
    assert len(quick.entries) == n
    assert quick == read_metadata(data, no_progress)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One or a few bytes changed, a stretch copied elsewhere, or the end cut off."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(20, len(out))
        match rng.randrange(5):
            case 0:
                out[at] = rng.randrange(256)
            case 1:
                out[at] = rng.choice(b"h\x94\x93()u\x85\x86\x87\x81}bNaeK")
            case 2:
                out[at] ^= 1 << rng.randrange(8)
            case 3:
                length = rng.randrange(1, 40)
                start = rng.randrange(20, len(out))
                out[at : at + length] = out[start : start + length]
            case _:
                del out[at : at + rng.randrange(1, 12)]
    # The frame's length is made right again, so that the opcodes are looked at.
    if out[2:3] == b"\x95":
        out[3:11] = (len(out) - 11).to_bytes(8, "little")
    return bytes(out)


def same_or_refused(data: bytes) -> bool:
    """Whether records say nothing, or just what the machine does."""
    quick = read_records(data, no_progress)
    if quick is None:
        return True
    try:
        slow: DcpMetadata | None = read_metadata(data, no_progress)
    except CorruptCheckpoint:
        slow = None
    return quick == slow


def test_that_records_never_say_anything_else_than_the_machine() -> None:
    rng = random.Random(3)
    samples = [
        pickle.dumps(metadata([f"a.{i}" for i in range(6)], seed, parts=parts, shared=shared))
        for seed, parts, shared in ((1, 1, False), (2, 3, False), (3, 1, True), (4, 2, True))
    ]
    understood = 0
    for _ in range(1500):
        data = mutated(rng.choice(samples), rng)
        assert same_or_refused(data), data.hex()
        understood += read_records(data, no_progress) is not None
    assert understood > 50


def test_that_reading_records_can_be_cancelled() -> None:
    def stop(done: int, total: int) -> None:
        raise Cancelled

    data = pickle.dumps(metadata([f"a.{i}" for i in range(6000)], 1))
    with pytest.raises(Cancelled):
        read_records(data, stop)
