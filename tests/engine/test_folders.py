"""Checkpoints of several files, asked as the window asks."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from sdviewer.engine.client import DocumentWorker, NumbersPool
from tests.engine.conftest import Answered, ask
from tests.formats.dcp_folders import write_dcp

WEIGHT = torch.arange(60.0).reshape(6, 10)
PARTS = {"a.weight": [((0, 0), (6, 4)), ((0, 4), (6, 6))]}


def opened(folder: Path) -> tuple[DocumentWorker, Answered]:
    worker = DocumentWorker(str(folder))
    answer = Answered()
    worker.open(answer.done, answer.failed)
    assert answer.wait().failure is None
    return worker, answer


def test_that_numbers_of_a_tensor_in_two_files_come_from_the_pool(tmp_path: Path) -> None:
    worker, answer = opened(write_dcp(tmp_path / "run", {"a.weight": WEIGHT}, PARTS))
    assert answer.body is not None
    assert answer.body["info"]["files"] == 3
    row = answer.body["rows_total"] - 1
    facts = ask(worker, "facts", row=row).body
    worker.stop()
    assert facts is not None
    assert facts["files"] == ["__0_0.distcp", "__1_0.distcp"]
    assert "several files" in facts["editable"]
    pool = NumbersPool(1)
    found = Answered()
    pool.request("overview", {"source": facts["source"]}, found.done, found.failed, found.progressed)
    body = found.wait().body
    pool.stop()
    assert body is not None, found.failure
    summary = body["summary"]
    assert (summary["min"], summary["max"], summary["mean"]) == (0, 59, 29.5)


def test_that_a_change_of_any_file_is_noticed(tmp_path: Path) -> None:
    folder = write_dcp(tmp_path / "run", {"a.weight": WEIGHT}, PARTS)
    worker, _ = opened(folder)

    def look() -> tuple[str, str]:
        body = ask(worker, "changed").body
        assert body is not None
        return body["state"], Path(body["file"]).name

    assert look()[0] == "same"
    os.utime(folder / "__1_0.distcp", ns=(1, 1))
    assert look() == ("written", "__1_0.distcp")
    (folder / "__0_0.distcp").unlink()
    assert look() == ("gone", "__0_0.distcp")
    worker.stop()
