from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from sdviewer.engine import measuring
from sdviewer.engine.measuring import measure
from sdviewer.errors import Cancelled, CorruptCheckpoint
from sdviewer.formats import open_checkpoint, open_storage
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


def test_that_a_large_tensor_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0

    class Counting:
        def __init__(self, storage: Any) -> None:
            self._storage = storage
            self.nbytes = storage.nbytes

        def read_into(self, start: int, buffer: memoryview) -> None:
            nonlocal read
            read += buffer.nbytes
            self._storage.read_into(start, buffer)

    @contextmanager
    def counted(source: Any) -> Iterator[Counting]:
        with open_storage(source) as storage:
            yield Counting(storage)

    monkeypatch.setattr(measuring, "open_storage", counted)
    torch.save({"w": torch.rand(17 << 18)}, tmp_path / "a.pth")
    assert measure(open_checkpoint(str(tmp_path / "a.pth")), [0])["state"].tolist() == [KNOWN]
    assert read == 17 << 20


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_that_an_absurd_zero_point_spoils_its_own_tensor_alone(tmp_path: Path) -> None:
    rebuild, arguments = torch.quantize_per_tensor(torch.randn(3, 4), 0.1, 5, torch.quint8).__reduce_ex__(2)
    quantizer = (arguments[4][0], 0.1, 2**70)

    class Absurd:
        def __reduce__(self) -> tuple[Any, Any]:
            return rebuild, (*arguments[:4], quantizer, *arguments[5:])

    torch.save({"q": Absurd(), "w": torch.ones(2)}, tmp_path / "a.pth")
    checkpoint = open_checkpoint(str(tmp_path / "a.pth"))
    states = {str(info.key): measure(checkpoint, [at])["state"][0] for at, info in enumerate(checkpoint.tensors)}
    assert states.get("q", UNREADABLE) == UNREADABLE
    assert states["w"] == KNOWN
