"""A document worker and small files to open with it."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdviewer.engine.client import DocumentWorker, Request

WAIT = 60.0
"""Seconds after which a test gives up on an answer; no answer depends on it."""


@dataclass
class Answered:
    """The answer to one request, once it came."""

    body: Mapping[str, Any] | None = None
    buffers: Mapping[str, memoryview] = field(default_factory=dict)
    failure: Mapping[str, Any] | None = None
    progress: list[tuple[int, int]] = field(default_factory=list)
    came: threading.Event = field(default_factory=threading.Event)

    def done(self, body: Mapping[str, Any], buffers: Mapping[str, memoryview]) -> None:
        self.body, self.buffers = body, buffers
        self.came.set()

    def failed(self, failure: Mapping[str, Any]) -> None:
        self.failure = failure
        self.came.set()

    def progressed(self, done: int, total: int) -> None:
        self.progress.append((done, total))

    def wait(self) -> Answered:
        assert self.came.wait(WAIT), "no answer"
        return self


Ask = Callable[..., Answered]


def ask(worker: DocumentWorker, name: str, **params: Any) -> Answered:
    """Send a request and wait for its answer."""
    answer = Answered()
    worker.request(name, params, answer.done, answer.failed, answer.progressed)
    return answer.wait()


def begin(worker: DocumentWorker, name: str, **params: Any) -> tuple[Request, Answered]:
    """Send a request and do not wait."""
    answer = Answered()
    return worker.request(name, params, answer.done, answer.failed, answer.progressed), answer


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray[Any, np.dtype[np.float32]]]) -> Path:
    """A safetensors file of float32 tensors, by hand."""
    header, data = {}, b""
    for name, values in tensors.items():
        raw = values.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """Six tensors of three alike blocks and a head, all keys under `module.`."""
    rng = np.random.default_rng(0)
    tensors = {f"module.blocks.{n}.{part}": rng.normal(size=(4, 2)) for n in range(3) for part in ("a", "b")}
    tensors["module.head"] = rng.normal(size=(3,))
    return write_safetensors(tmp_path / "model.safetensors", tensors)


@pytest.fixture
def document(model_file: Path) -> Iterator[DocumentWorker]:
    """A worker that has `model_file` open."""
    worker = DocumentWorker(str(model_file))
    answer = Answered()
    worker.open(answer.done, answer.failed)
    assert answer.wait().failure is None
    yield worker
    worker.stop()
