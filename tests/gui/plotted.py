"""A plot with the numbers of a tensor in it, as a worker answers them, without a window."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PySide6.QtCore import QSize
from pytestqt.qtbot import QtBot

from sdviewer.core.progress import no_progress
from sdviewer.engine.numbers import Numbers
from sdviewer.formats import open_checkpoint, tensor_source
from sdviewer.gui.plots.place import Place
from sdviewer.gui.plots.plot import Plot


def facts_of(path: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[str, Any]]:
    """What the window knows of each tensor before it asks for numbers; they are written to `path`."""
    torch.save(dict(tensors), path)
    checkpoint = open_checkpoint(path)
    return {
        str(info.key): {
            "row": index,
            "key": info.key,
            "shape": list(info.shape),
            "dtype": info.dtype,
            "source": tensor_source(checkpoint, index).to_json(),
        }
        for index, info in enumerate(checkpoint.tensors)
    }


def ask(name: str, params: Mapping[str, Any]) -> tuple[Any, dict[str, memoryview]]:
    """The pool's answer as it arrives in the window: through JSON, as raw bytes."""
    found = Numbers().requests[name](params, no_progress)
    buffers = {name: memoryview(memoryview(data).tobytes()) for name, data in found.buffers.items()}
    return json.loads(json.dumps(found.body)), buffers


def answer(plot: Plot, about: Mapping[str, Any]) -> tuple[Any, dict[str, memoryview]]:
    """The pool's answer to what a plot asks now."""
    name, params = plot.request(about)
    return ask(name, {**plot.sources(about), **params})


def shown(kind: type[Plot], about: Mapping[str, Any], qtbot: QtBot, size: QSize = QSize(460, 360)) -> Any:  # noqa: B008
    """A plot of this kind that has drawn a tensor, with a place of its own."""
    plot = kind()
    qtbot.addWidget(plot)
    plot.share(Place())
    plot.resize(size)
    plot.show()
    plot._facts = about
    plot.begin(about)
    plot.take(*answer(plot, about))
    return plot
