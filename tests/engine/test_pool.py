"""The pool gets ready before it is asked, and answers meanwhile."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from sdviewer.engine.client import NumbersPool
from sdviewer.formats import open_checkpoint, tensor_source
from tests.engine.conftest import Answered


def _source(folder: Path) -> dict[str, Any]:
    path = folder / "model.safetensors"
    head = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + struct.pack("<2f", 1.0, 3.0))
    return tensor_source(open_checkpoint(str(path)), 0).to_json()


def test_that_every_process_warms_up_and_one_is_asked_meanwhile(tmp_path: Path) -> None:
    source = _source(tmp_path)
    pool = NumbersPool(2)
    pool.warm_up()
    asked = []
    for _ in range(4):
        answer = Answered()
        pool.request("overview", {"source": source}, answer.done, answer.failed)
        asked.append(answer)
    means = [answer.wait().body["summary"]["mean"] for answer in asked if answer.wait().body is not None]
    workers = [worker._process for worker in pool._workers]
    pool.stop()
    assert means == [2.0] * 4
    assert all(workers)


def test_that_a_worker_that_is_warm_is_free_again(tmp_path: Path) -> None:
    source = _source(tmp_path)
    pool = NumbersPool(1)
    pool.warm_up()
    answer = Answered()
    pool.request("overview", {"source": source}, answer.done, answer.failed)
    assert answer.wait().body is not None
    pool.stop()
