"""What the tests of saving share: plans made by hand, and files opened by torch in each way it knows."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.serialization import config

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.formats import Receipt, open_checkpoint, save
from sdviewer.repair.plan import Kept, Plan, Target


def plan_of(
    checkpoint: Checkpoint,
    rename: Callable[[str], str | None] | Mapping[str, str | None] = {},  # noqa: B006
    *,
    state_dict: str | None = None,
    **more: Any,
) -> Plan:
    """A plan that gives each key what `rename` makes of it; None drops it. `state_dict` is a dotted path."""
    index = next(
        i
        for i, found in enumerate(checkpoint.state_dicts)
        if (found.role == "model" if state_dict is None else ".".join(map(str, found.path)) == state_dict)
    )
    keys = checkpoint.state_dicts[index].keys
    new = [rename(key) if callable(rename) else rename.get(key, key) for key in keys]
    return Plan(
        index,
        tuple([Target(key, Kept(i)) for i, key in enumerate(new) if key is not None]),
        tuple([i for i, key in enumerate(new) if key is None]),
        **more,
    )


def saved(source: Path, out: Path, rename: Any = {}, *, ask_torch: bool = False, **more: Any) -> Receipt:  # noqa: B006
    """Open, plan and save."""
    checkpoint = open_checkpoint(source)
    return save(checkpoint, plan_of(checkpoint, rename, **more), str(out), ask_torch=ask_torch)


def load_every_way(path: Path) -> Any:
    """What torch makes of a zip file, after checking that all of its ways of reading agree."""
    plain = torch.load(path, weights_only=False)
    os.environ["TORCH_SERIALIZATION_DEBUG"] = "1"  # torch then checks each offset it computes against the headers
    try:
        assert same(torch.load(path, weights_only=True), plain)
        assert same(torch.load(path, weights_only=True, mmap=True), plain)
        with config.patch({"load.calculate_storage_offsets": True}):
            assert same(torch.load(path, weights_only=True, mmap=True), plain)
    finally:
        del os.environ["TORCH_SERIALIZATION_DEBUG"]
    data = path.read_bytes()
    with FakeTensorMode():
        fake = torch.load(path, weights_only=True)
    for mine, theirs in zip(tensors_in(plain), tensors_in(fake), strict=True):
        storage = mine.untyped_storage()
        offset = theirs.untyped_storage()._checkpoint_offset
        assert data[offset : offset + storage.nbytes()] == bytes(storage.tolist())
    return plain


def tensors_in(value: Any) -> list[torch.Tensor]:
    """All tensors, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for item in items for tensor in tensors_in(item)]


def same(a: Any, b: Any) -> bool:
    """Equal in every tensor's bytes, stride and flags, in every value and in the order of keys."""
    if isinstance(a, torch.Tensor):
        return (
            (a.dtype, a.shape, a.stride(), a.requires_grad, a.is_conj())
            == (b.dtype, b.shape, b.stride(), b.requires_grad, b.is_conj())
            and type(a) is type(b)
            and _bytes(a) == _bytes(b)
        )
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b or a is b)


def _bytes(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.detach().resolve_conj().contiguous().flatten().view(torch.uint8).tolist())


def records(path: Path) -> dict[str, bytes]:
    """The records of an archive without their folder, whatever their checksums say."""
    with zipfile.ZipFile(path) as archive, warnings.catch_warnings():
        for info in archive.infolist():
            info.CRC = 0
        found = {}
        for info in archive.infolist():
            with archive.open(info) as member:
                member._expected_crc = None  # type: ignore[attr-defined]
                found[info.filename.partition("/")[2]] = member.read()
        return found


def damage(path: Path, record: str) -> None:
    """Turn over one bit of the first byte of a stored record of an archive."""
    with zipfile.ZipFile(path) as archive:
        info = next(info for info in archive.infolist() if info.filename.endswith(record))
    data = bytearray(path.read_bytes())
    header = info.header_offset
    lengths = [int.from_bytes(data[at : at + 2], "little") for at in (header + 26, header + 28)]
    data[header + 30 + sum(lengths)] ^= 1
    path.write_bytes(data)
