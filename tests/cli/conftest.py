"""The command line in this process, and small checkpoints written by torch."""

from __future__ import annotations

import io
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sdviewer.cli.main import run


@dataclass(frozen=True)
class Ran:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout, which must be one ASCII JSON document and nothing else."""
        assert self.out.isascii()
        return json.loads(self.out)


Command = Callable[..., Ran]


def typed(text: str | bytes) -> io.TextIOWrapper:
    """A stdin that gives a text."""
    return io.TextIOWrapper(io.BytesIO(text if isinstance(text, bytes) else text.encode()), "utf-8")


@pytest.fixture
def sdviewer(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command line."""

    def command(*argv: object) -> Ran:
        code = run([str(word) for word in argv])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return command


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """A training checkpoint: model under `model` with a DataParallel prefix and a shared storage, EMA, optimizer."""
    import torch

    weight = torch.arange(6.0).reshape(2, 3)
    model = OrderedDict(
        [("module.fc.weight", weight), ("module.fc.bias", torch.tensor([1.0, float("nan")])), ("module.tied", weight)]
    )
    ema = OrderedDict((key, tensor.clone()) for key, tensor in model.items())
    optimizer = {"state": {0: {"exp_avg": torch.zeros(2, 3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    path = tmp_path / "training.pth"
    torch.save({"model": model, "ema": ema, "optimizer": optimizer, "epoch": 3, "note": "ünï\u202e"}, path)
    return path


@pytest.fixture
def strip(tmp_path: Path) -> Path:
    """A recipe that takes `module.` away."""
    path = tmp_path / "strip.toml"
    path.write_text('format = "sdviewer-recipe/1"\n[[step]]\nop = "strip"\nprefix = "module."\n')
    return path
