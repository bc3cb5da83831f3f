"""A recipe for several state dicts of one file: a model and its average, repaired in one go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdviewer.errors import UsageError
from sdviewer.repair.recipe import parse_recipe
from sdviewer.repair.script import program
from tests.cli.conftest import Command

RECIPE = """format = "sdviewer-recipe/1"
[source]
state_dict = ["model", "ema"]
[[step]]
op = "strip"
prefix = "module."
[[step]]
op = "set_value"
path = "epoch"
value = 4
"""


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """The recipe in a file."""
    path = tmp_path / "both.toml"
    path.write_text(RECIPE)
    return path


def test_that_all_get_the_same_steps_and_the_rest_stays(
    sdviewer: Command, training: Path, both: Path, tmp_path: Path
) -> None:
    import torch

    before = training.read_bytes()
    out = tmp_path / "out.pth"
    done = sdviewer("repair", training, "--recipe", both, "-o", out, "--json")
    assert done.code == 0, done.err
    old, new = torch.load(training, weights_only=True), torch.load(out, weights_only=True)
    for name in ("model", "ema"):
        assert list(new[name]) == ["fc.weight", "fc.bias", "tied"]
        for key, tensor in old[name].items():
            assert torch.equal(new[name][key.removeprefix("module.")].view(torch.int32), tensor.view(torch.int32))
    assert new["model"]["tied"].data_ptr() == new["model"]["fc.weight"].data_ptr()
    assert (new["epoch"], new["note"]) == (4, old["note"])
    assert new["optimizer"].keys() == old["optimizer"].keys()
    verified = done.json["verified"]
    assert verified["keys"] and verified["bits"] and verified["weights_only"] and verified["source_unchanged"]
    assert done.json["written"] == 6
    assert training.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["both.toml", "out.pth", "training.pth"]


def test_that_all_have_to_fit(sdviewer: Command, training: Path, both: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"fc.weight": [2, 3], "fc.bias": [2], "tied": [2, 3]}))
    asked = ("repair", training, "--recipe", both, "--target", keys, "--json", "-o")
    done = sdviewer(*asked, tmp_path / "out.pth")
    assert (done.code, done.json["verified"]["target"]) == (0, True)
    both.write_text(RECIPE + '[[step]]\nop = "drop"\nkeys = ["tied"]\n')
    done = sdviewer(*asked, tmp_path / "less.pth")
    assert (done.code, done.json["verified"]["target"]) == (1, False)


def test_that_a_dry_run_writes_nothing(sdviewer: Command, training: Path, both: Path, tmp_path: Path) -> None:
    there = sorted(tmp_path.iterdir())
    done = sdviewer("repair", training, "--recipe", both, "-o", tmp_path / "out.pth", "--dry-run", "--json")
    assert (done.code, done.json["written"], done.json["verified"]) == (0, 6, None)
    assert sorted(tmp_path.iterdir()) == there


def test_that_it_is_refused_where_only_one_would_stay(
    sdviewer: Command, training: Path, both: Path, tmp_path: Path
) -> None:
    there = sorted(tmp_path.iterdir())
    assert sdviewer("repair", training, "--recipe", both, "-o", tmp_path / "out.safetensors").code == 2
    assert sdviewer("repair", training, "--recipe", both, "-o", tmp_path / "no" / "out.pth").code == 4
    assert sdviewer("repair", training, "--recipe", both, "-o", training, "--overwrite").code == 2
    one = sdviewer("repair", training, "--recipe", both, "-o", tmp_path / "one.pth", "--state-dict", "ema", "--json")
    assert one.json["written"] == 3
    (tmp_path / "one.pth").unlink()
    both.write_text(RECIPE + '[[step]]\nop = "unwrap"\npath = "model"\n')
    assert "unwrap leaves one" in sdviewer("repair", training, "--recipe", both, "-o", tmp_path / "out.pth").err
    assert sorted(tmp_path.iterdir()) == there


def test_that_the_recipe_keeps_its_list(both: Path) -> None:
    recipe = parse_recipe(RECIPE)
    assert parse_recipe(recipe.to_text()) == recipe
    with pytest.raises(UsageError, match="one state dict"):
        program(recipe)
    for names in ('["a", "a"]', '["auto", "a"]'):
        with pytest.raises(UsageError, match="state_dict"):
            parse_recipe(RECIPE.replace('["model", "ema"]', names))


def test_that_a_rule_is_dead_that_matches_nothing_in_all_of_them(
    sdviewer: Command, training: Path, both: Path, tmp_path: Path
) -> None:
    both.write_text(RECIPE + '[[step]]\nop = "drop"\nkeys = ["tied"]\n[[step]]\nop = "drop"\nkeys = ["nowhere"]\n')
    done = sdviewer("repair", training, "--recipe", both, "-o", tmp_path / "out.pth", "--json").json
    dead = [one["message"] for one in done["warnings"] if one["code"] == "dead_rule"]
    assert dead == ['step 4 (Drop "nowhere"): matches nothing: "nowhere"']


def test_that_a_rule_for_one_of_them_alone_is_not_dead(sdviewer: Command, both: Path, tmp_path: Path) -> None:
    import torch

    weights = {"module.fc.weight": torch.ones(2)}
    torch.save({"model": weights, "ema": {**weights, "module.decay": torch.ones(1)}, "epoch": 1}, tmp_path / "a.pth")
    both.write_text(RECIPE + '[[step]]\nop = "drop"\nkeys = ["decay"]\n')
    done = sdviewer("repair", tmp_path / "a.pth", "--recipe", both, "-o", tmp_path / "out.pth", "--json").json
    assert (done["warnings"], done["dropped"]) == ([], ["module.decay"])
