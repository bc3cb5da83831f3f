"""What of a damaged file is to be dropped so that the rest can be saved."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from sdviewer.core.progress import no_progress
from sdviewer.engine.lost import Lost, find_lost
from sdviewer.formats import open_checkpoint, save
from sdviewer.repair.operations import Drop, Strip
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import Recipe, Source


def without(path: Path, records: Collection[str]) -> Path:
    """The archive without some of its storages."""
    out = path.with_name("damaged.pt")
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(out, "w") as after:
        for info in before.infolist():
            if not any(info.filename.endswith(f"/data/{record}") for record in records):
                after.writestr(info, before.read(info))
    return out


def lost_in(path: Path, recipe: Recipe = Recipe()) -> Lost:  # noqa: B008  it is frozen
    return find_lost(open_checkpoint(path), recipe, no_progress)


def saved(path: Path, lost: Lost, recipe: Recipe = Recipe()) -> Any:  # noqa: B008
    """What torch loads of the copy after the step."""
    checkpoint = open_checkpoint(path)
    steps = (*recipe.steps, Drop(keys=lost.patterns))
    plan = make_plan(Recipe(source=Source(state_dict=lost.state_dict), steps=steps), checkpoint)
    save(checkpoint, plan, path.with_name("out.pt"), ask_torch=False)
    return torch.load(path.with_name("out.pt"), weights_only=True)


def test_that_exactly_what_cannot_be_copied_is_named_as_the_recipe_calls_it(tmp_path: Path) -> None:
    model = OrderedDict((f"m.{at}", torch.full((3,), float(at))) for at in range(5))
    model["m.view"] = model["m.1"][1:]
    torch.save(model, tmp_path / "a.pt")
    path = without(tmp_path / "a.pt", ["1", "3"])
    lost = lost_in(path)
    assert lost == Lost("auto", ("m.1", "m.3", "m.view"), "")
    assert list(saved(path, lost)) == ["m.0", "m.2", "m.4"]
    path.with_name("out.pt").unlink()
    recipe = Recipe(steps=(Strip(prefix="m."), Drop(keys=("3",))))
    lost = lost_in(path, recipe)
    assert lost.patterns == ("1", "view")
    assert list(saved(path, lost, recipe)) == ["0", "2", "4"]


def test_that_a_legacy_file_that_breaks_off_loses_what_comes_after(tmp_path: Path) -> None:
    model = OrderedDict((f"w{at}", torch.full((50,), float(at))) for at in range(4))
    torch.save(model, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "a.pth").read_bytes()
    path = tmp_path / "cut.pth"
    path.write_bytes(data[:-300])
    lost = lost_in(path)
    assert lost.remaining == ""
    # torch writes the storages in the order of their addresses.
    gone = {info.key for info in open_checkpoint(path).tensors if info.unreadable}
    assert len(gone) == 2
    assert set(lost.patterns) == gone
    left = {name: values[0].item() for name, values in saved(path, lost).items()}
    assert left == {name: float(name[1:]) for name in model if name not in gone}


def test_that_a_part_of_a_sparse_tensor_takes_the_whole_along(tmp_path: Path) -> None:
    torch.save(OrderedDict(a=torch.eye(3).to_sparse(), b=torch.ones(2)), tmp_path / "a.pt")
    path = without(tmp_path / "a.pt", ["1"])
    assert lost_in(path).patterns == ("a",)


def test_that_a_cut_safetensors_file_loses_what_lies_behind(tmp_path: Path) -> None:
    save_file({f"w{at}": torch.ones(100) for at in range(300)}, tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[: -400 * 250 - 1])
    lost = lost_in(tmp_path / "cut.safetensors")
    assert (len(lost.patterns), lost.remaining) == (251, "")


def test_that_the_state_dict_with_the_loss_is_chosen_and_what_stays_lost_is_said(tmp_path: Path) -> None:
    thing = {"model": {"a.w": torch.ones(2)}, "ema": {"b.w": torch.ones(3)}, "rest": [torch.ones(4)]}
    torch.save(thing, tmp_path / "a.pt")
    lost = lost_in(without(tmp_path / "a.pt", ["1"]))
    assert (lost.state_dict, lost.patterns, lost.remaining) == ("ema", ("b.w",), "")
    lost = lost_in(without(tmp_path / "a.pt", ["1", "2"]))
    assert lost.patterns == ("b.w",)
    assert "rest.0 cannot be copied" in lost.remaining
    assert lost_in(tmp_path / "a.pt").patterns == ()


def test_that_a_file_that_cannot_be_written_at_all_says_so(tmp_path: Path) -> None:
    with (tmp_path / "a.pkl").open("wb") as file:
        pickle.dump({"w": np.ones(2)}, file)
    assert lost_in(tmp_path / "a.pkl") == Lost("auto", (), "pickle files can be read and not written")
