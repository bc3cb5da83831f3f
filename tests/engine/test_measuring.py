from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sdviewer.engine.measuring import measure
from sdviewer.errors import Cancelled, CorruptCheckpoint
from sdviewer.formats import open_checkpoint
from sdviewer.stats.table import KNOWN, UNREADABLE


def test_that_each_tensor_asked_for_gets_its_row(tmp_path: Path) -> None:
    weight = torch.randn(40, 30)
    weight[3] = 0
    torch.save({"w": weight, "ones": torch.ones(7), "meta": torch.empty(2, device="meta")}, tmp_path / "a.pth")
    seen: list[tuple[int, int]] = []
    checkpoint = open_checkpoint(str(tmp_path / "a.pth"))
    found = measure(checkpoint, [2, 0, 1], lambda done, total: seen.append((done, total)))
    assert found["state"].tolist() == [UNREADABLE, KNOWN, KNOWN]
    assert found["count"].tolist() == [-1, 1200, 7]
    assert found["zero_rows"].tolist() == [-1, 1, -1]
    assert found["constant"].tolist() == [0, 0, 1]
    assert found["mean"][1] == pytest.approx(weight.double().mean().item(), rel=1e-12)
    total = sum(tensor.nbytes for tensor in checkpoint.tensors)
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)


def test_that_measuring_stops_when_told_to_and_where_the_file_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"w": torch.ones(3)}, path)
    checkpoint = open_checkpoint(str(path))

    def stop(done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        measure(checkpoint, [0], stop)
    torch.save({"w": torch.ones(4)}, path)
    with pytest.raises(CorruptCheckpoint) as failure:
        measure(checkpoint, [0])
    assert failure.value.code == "file_changed"
