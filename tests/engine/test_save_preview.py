"""What is said of a save before it happens, and of the keys of one that did."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from sdviewer.core.progress import no_progress
from sdviewer.engine.document import Document
from sdviewer.repair.history import Draft, Step
from sdviewer.repair.operations import Prefix

PREFIX = Draft((Step.of(Prefix(add="m.")),)).to_text()


def answered(document: Document, name: str, **params: Any) -> Mapping[str, Any]:
    return document.requests[name](params, no_progress).body


def opened(path: Path) -> Document:
    document = Document()
    document.open({"path": str(path)}, no_progress)
    return document


@pytest.fixture
def tied(tmp_path: Path) -> Document:
    """Two tied tensors and one of its own, with a hook of the training around them."""
    shared = torch.arange(6.0).reshape(2, 3)
    torch.save({"embed.weight": shared, "head.weight": shared, "norm.bias": torch.ones(3)}, tmp_path / "tied.pt")
    return opened(tmp_path / "tied.pt")


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Document]:
    """Weights with all that stands beside them in a training checkpoint."""
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(4)).sum().backward()
    optimizer.step()
    parts = {
        "model": OrderedDict(model.state_dict()),
        "optimizer": optimizer.state_dict(),
        "ema": OrderedDict(model.state_dict()),
        "lr_scheduler": {"last_epoch": 3, "base": [0.1]},
        "epoch": 3,
    }
    torch.save(parts, tmp_path / "training.pt")
    yield opened(tmp_path / "training.pt")


def test_that_a_dry_run_tells_what_the_save_then_writes(tied: Document, tmp_path: Path) -> None:
    out = tmp_path / "copy.safetensors"
    told = answered(tied, "would_save", recipe=PREFIX, out=str(out), container="safetensors")
    assert not out.exists()
    saved = tied.requests["save"](
        {
            "path": tied.checkpoint.path,
            "recipe": PREFIX,
            "out": str(out),
            "container": "safetensors",
            "overwrite": False,
            "identity": answered(tied, "open", path=tied.checkpoint.path)["info"]["identity"],
        },
        no_progress,
    ).body
    assert told["size"] == out.stat().st_size == saved["receipt"]["size"]
    assert (told["written"], told["renamed"], told["dropped"]) == (3, 3, 0)
    assert told["copied"] == saved["receipt"]["copied_bytes"]


def test_that_ties_are_listed_and_counted_and_end_when_each_is_written(tied: Document, tmp_path: Path) -> None:
    out = str(tmp_path / "copy.safetensors")
    told = answered(tied, "would_save", recipe="", out=out, container="safetensors")
    assert told["ties"] == {"count": 1, "rows": [["head.weight", "embed.weight"]]}
    clone = Draft(head={"save": {"shared": "clone"}}).to_text()
    each = answered(tied, "would_save", recipe=clone, out=out, container="safetensors")
    assert each["size"] > told["size"]
    assert any("copy of its own" in message for _, message in each["losses"])


def test_that_what_a_container_cannot_hold_is_told_before(training: Document, tmp_path: Path) -> None:
    def losses(container: str) -> str:
        recipe = Draft().for_state_dict("model").to_text()
        told = answered(training, "would_save", recipe=recipe, out=str(tmp_path / "copy"), container=container)
        assert told["error"] is None
        return " ".join(message for _, message in told["losses"])

    assert losses("torch-zip") == ""
    assert "optimizer" in losses("safetensors")


def test_that_a_place_is_refused_and_what_would_be_written_is_told_all_the_same(tied: Document, tmp_path: Path) -> None:
    def told(out: Path, container: str = "torch-zip") -> Mapping[str, Any]:
        return answered(tied, "would_save", recipe=PREFIX, out=str(out), container=container)

    source = told(Path(tied.checkpoint.path))
    assert "input" in source["refused"]["message"]
    assert source["written"] == 3
    assert told(tmp_path / "no" / "copy.pt")["refused"]["code"] == "bad_place"
    there = tmp_path / "there.pt"
    there.write_bytes(b"old")
    (tmp_path / "also.pt").hardlink_to(there)
    found = told(there)
    assert found["refused"] is None
    assert (found["there"]["size"], found["there"]["other_names"]) == (3, 1)
    assert told(there, "hf-index")["refused"]["code"] == "exists"
    assert there.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["also.pt", "there.pt", "tied.pt"]


def test_that_the_map_comes_in_pages_and_is_searched_in_old_and_new_keys(tied: Document, tmp_path: Path) -> None:
    def rows(**also: Any) -> Mapping[str, Any]:
        params = {"recipe": PREFIX, "out": str(tmp_path / "c.pt"), "container": "torch-zip", "filter": ""}
        return answered(tied, "save_map", **{**params, "changed": False, "start": 0, "limit": 2, **also})

    first = rows()
    assert [row[:2] for row in first["rows"]] == [["embed.weight", "m.embed.weight"], ["head.weight", "m.head.weight"]]
    assert (first["total"], first["all"], first["different"]) == (3, 3, 3)
    assert [row[0] for row in rows(start=2)["rows"]] == ["norm.bias"]
    assert [row[0] for row in rows(filter="m.norm")["rows"]] == ["norm.bias"]
    assert rows(recipe="", changed=True)["rows"] == []


def test_that_a_slim_copy_leaves_out_what_is_only_needed_to_train_on_unless_somebody_says_more(
    training: Document,
) -> None:
    told = answered(training, "slim", recipe="")
    assert told["state_dict"] == "model"
    parts = {part["path"]: part for part in told["parts"]}
    assert {path: part["goes"] for path, part in parts.items()} == {
        "optimizer": True,
        "ema": False,
        "lr_scheduler": True,
        "epoch": False,
    }
    # exp_avg and exp_avg_sq of 20 elements, two steps; ema shares its storages with the model.
    assert parts["optimizer"]["bytes"] == 2 * 20 * 4 + 2 * 4
    assert parts["ema"]["bytes"] == 0
    assert told["kept"] == 80


def test_that_a_file_of_weights_alone_has_nothing_for_a_slim_copy(tied: Document) -> None:
    told = answered(tied, "slim", recipe="")
    assert told["parts"] == []
    assert "nothing" in told["why"]
