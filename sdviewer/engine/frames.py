"""How two of our processes talk: a JSON header and raw buffers, over pipes.

No pickle: a worker reads hostile files, and the window must not unpickle what it says. Numbers travel as raw arrays, so
that 100,000 rows are a dozen buffers and no Python objects.

    u32 length of the header | header: {"id", "type", "body", "buffers": [[name, bytes], ...]} | the buffers' bytes
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Frame:
    """One message. `type` is request, cancel, progress, printed, naming, go, result, failed or cancelled.

    `id` names the request; `naming` and `go` are those of `engine.naming`, `printed` is that of `engine.models`.
    """

    id: int
    type: str
    body: Mapping[str, Any] = field(default_factory=dict)
    buffers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request returns: a JSON-ready body and raw buffers."""

    body: Mapping[str, Any] = field(default_factory=dict)
    buffers: Mapping[str, Any] = field(default_factory=dict)


def write_frame(stream: BinaryIO, frame: Frame) -> None:
    """Send a frame whole.

    Raises:
        OSError: the other side is gone.
    """
    names = [[name, memoryview(buffer).nbytes] for name, buffer in frame.buffers.items()]
    header = json.dumps({"id": frame.id, "type": frame.type, "body": frame.body, "buffers": names}).encode("ascii")
    stream.write(_LENGTH.pack(len(header)) + header)
    for buffer in frame.buffers.values():
        if memoryview(buffer).nbytes:  # a view with a zero in its shape cannot be cast
            stream.write(memoryview(buffer).cast("B"))
    stream.flush()


def read_frame(stream: BinaryIO) -> Frame | None:
    """The next frame, or None when the other side closed the pipe."""
    prefix = _read(stream, _LENGTH.size)
    if prefix is None:
        return None
    header_bytes = _read(stream, _LENGTH.unpack(prefix)[0])
    if header_bytes is None:
        return None
    header = json.loads(bytes(header_bytes))
    buffers: dict[str, memoryview] = {}
    for name, size in header["buffers"]:
        data = _read(stream, size)
        if data is None:
            return None
        buffers[name] = data
    return Frame(header["id"], header["type"], header["body"], buffers)


def _read(stream: BinaryIO, size: int) -> memoryview | None:
    buffer = bytearray(size)
    view = memoryview(buffer)
    done = 0
    while done < size:
        n = stream.readinto(view[done:])  # type: ignore[attr-defined]
        if not n:
            return None
        done += n
    return view
