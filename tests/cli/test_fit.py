"""`sdviewer fit`: the everyday failures, from the file that does not load to the one that does."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.conftest import Command, Ran, typed

if TYPE_CHECKING:
    import torch

MODEL = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(8), nn.Linear(8, 24), nn.LayerNorm(8)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(8, 16), "fc2": nn.Linear(16, 8)})


class Net(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.head = nn.Linear(8, classes)


def small_head():
    return Net(4)
"""


def net(name: str = "Net") -> torch.nn.Module:
    """The model, as its file makes it."""
    import torch

    torch.manual_seed(0)
    names: dict[str, Any] = {"__name__": "net"}
    exec(MODEL, names)
    made: torch.nn.Module = names[name]()
    return made


Tensors = Mapping[str, "torch.Tensor"]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """What the model asks for, as a list."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({key: list(value.shape) for key, value in net().state_dict().items()}))
    return path


def save(path: Path, value: Any) -> Path:
    import torch

    torch.save(value, path)
    return path


def renamed(state: Tensors, **names: str) -> OrderedDict[str, torch.Tensor]:
    """The same tensors, with parts of their keys exchanged."""
    result = OrderedDict()
    for key, value in state.items():
        for old, new in names.items():
            key = key.replace(old, new)
        result[key] = value
    return result


def fit_and_repair(sdviewer: Command, file: Path, target: object, *options: str) -> tuple[Ran, Ran]:
    """Both commands, with the recipe and the output beside the file."""
    recipe, out = file.with_suffix(".toml"), file.with_suffix(".fitted.pt")
    found = sdviewer("fit", file, "--target", target, "-o", recipe, "--json", *options)
    assert found.code == 0, found.err
    assert recipe.read_text("utf-8") == found.json["recipe"]
    return found, sdviewer("repair", file, "--recipe", recipe, "-o", out, "--target", target, "--json")


def loads(file: Path, state: Tensors) -> None:
    """The repaired file loads strictly and holds the numbers that `state` has under the model's keys."""
    import torch

    written = torch.load(file.with_suffix(".fitted.pt"), weights_only=True)
    model = net()
    assert str(model.load_state_dict(written)) == "<All keys matched successfully>"
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_that_a_prefix_goes(sdviewer: Command, tmp_path: Path, keys: Path) -> None:
    state = net().state_dict()
    file = save(tmp_path / "dp.pt", OrderedDict((f"module.{key}", value) for key, value in state.items()))
    found, repaired = fit_and_repair(sdviewer, file, keys)
    n = len(state)
    assert found.json["before"] == {"matched": 0, "missing": n, "unexpected": n, "mismatched": 0}
    assert found.json["after"] == {"matched": n, "missing": 0, "unexpected": 0, "mismatched": 0}
    assert [step["op"] for step in found.json["steps"]] == ["strip"]
    assert found.json["map"] == {f"module.{key}": key for key in state}
    assert repaired.code == 0
    assert repaired.json["verified"]["target"] is True
    loads(file, state)


def test_that_a_renamed_part_gets_its_name_back(sdviewer: Command, tmp_path: Path) -> None:
    state = net().state_dict()
    target = save(tmp_path / "model.pt", state)
    old = renamed(state, blocks="encoder.layers", mlp="ffn")
    file = save(tmp_path / "renamed.pt", old)
    found, repaired = fit_and_repair(sdviewer, file, target)
    assert found.json["map"] == dict(zip(old, state, strict=True))
    assert found.json["after_keys"] == {"missing": [], "unexpected": [], "mismatched": []}
    assert len(found.json["steps"]) <= 2
    assert repaired.json["verified"]["target"] is True
    loads(file, state)


def test_that_a_wrapped_training_checkpoint_is_unwrapped(sdviewer: Command, tmp_path: Path, keys: Path) -> None:
    import torch

    model = net()
    state = model.state_dict()
    wrapped = {
        "state_dict": OrderedDict((f"model.{key}", value) for key, value in state.items()),
        "optimizer_states": [torch.optim.AdamW(model.parameters()).state_dict()],
        "epoch": 3,
        "pytorch-lightning_version": "2.0.0",
    }
    file = save(tmp_path / "last.ckpt", wrapped)
    found, repaired = fit_and_repair(sdviewer, file, keys)
    assert next(step["op"] for step in found.json["steps"]) == "unwrap"
    assert found.json["map"] == {f"model.{key}": key for key in state}
    assert repaired.json["verified"]["target"] is True
    assert "epoch" in repaired.json["dropped"]
    loads(file, state)


def test_that_a_head_of_another_size_goes_only_when_that_is_accepted(sdviewer: Command, tmp_path: Path) -> None:
    import torch

    state = net("small_head").state_dict()
    file = save(tmp_path / "small.pt", state)
    target = save(tmp_path / "model.pt", net().state_dict())
    found, repaired = fit_and_repair(sdviewer, file, target)
    differs = [
        {"key": "head.weight", "source_shape": [4, 8], "target_shape": [10, 8]},
        {"key": "head.bias", "source_shape": [4], "target_shape": [10]},
    ]
    assert found.json["before_keys"] == {"missing": [], "unexpected": [], "mismatched": differs}
    assert found.json["after_keys"]["mismatched"] == differs
    (step,) = found.json["steps"]
    assert (step["op"], step["n_keys"], step["evidence"]) == ("drop", 2, "ambiguous")
    assert repaired.code == 1
    assert repaired.json["verified"]["target"] is False

    file = save(tmp_path / "dropped.pt", state)
    found, repaired = fit_and_repair(sdviewer, file, target, "--accept", "ambiguous")
    assert found.json["after_keys"] == {"missing": ["head.weight", "head.bias"], "unexpected": [], "mismatched": []}
    assert found.json["map"]["head.weight"]["op"] == "drop"
    assert repaired.code == 1
    written = torch.load(tmp_path / "dropped.fitted.pt", weights_only=True)
    assert net().load_state_dict(written, strict=False).missing_keys == ["head.weight", "head.bias"]


def test_that_a_key_that_may_be_missing_is_no_reason(sdviewer: Command, tmp_path: Path, keys: Path) -> None:
    file = save(tmp_path / "small.pt", net("small_head").state_dict())
    sdviewer("fit", file, "--target", keys, "-o", tmp_path / "r.toml", "--accept", "ambiguous")
    goal = '\n[target]\nkeys = "keys.json"\nallow_missing = ["head.**"]\n'
    (tmp_path / "r.toml").write_text((tmp_path / "r.toml").read_text("utf-8") + goal)
    done = sdviewer("repair", file, "--recipe", tmp_path / "r.toml", "-o", tmp_path / "out.pt", "--json")
    assert (done.code, done.json["verified"]["target"]) == (0, True)
    (tmp_path / "r.toml").write_text((tmp_path / "r.toml").read_text("utf-8").replace("head.**", "head.bias"))
    done = sdviewer("repair", file, "--recipe", tmp_path / "r.toml", "-o", tmp_path / "more.pt", "--json")
    assert (done.code, done.json["verified"]["target"]) == (1, False)
    assert (tmp_path / "more.pt").exists()
    assert [(w["code"], w["keys"]) for w in done.json["warnings"]] == [("target_not_met", ["head.weight"])]


def test_that_a_hand_made_rekeying_is_mended(sdviewer: Command, tmp_path: Path) -> None:
    state = net().state_dict()
    target = save(tmp_path / "model.pt", state)
    broken = OrderedDict()
    for key, value in state.items():
        key = key.replace("blocks.1.", "blocks_1.").replace("blocks.2.norm1.", "blocks.2.norm_1.")
        broken[key.replace("stem.1.", "stem.bn.")] = value
    file = save(tmp_path / "by_hand.pt", broken)
    found, repaired = fit_and_repair(sdviewer, file, target)
    assert found.json["map"] == dict(zip(broken, state, strict=True))
    assert repaired.json["verified"]["target"] is True
    loads(file, state)


def test_that_what_fits_needs_no_steps(sdviewer: Command, tmp_path: Path, keys: Path) -> None:
    file = save(tmp_path / "fine.pt", net().state_dict())
    found = sdviewer("fit", file, "--target", keys, "--strict", "--json")
    assert found.code == 0
    assert (found.json["steps"], found.json["before"]) == ([], found.json["after"])
    assert "Nothing to repair" in sdviewer("fit", file, "--target", keys).out


# The contract


def test_that_the_document_has_every_field_in_its_order(sdviewer: Command, tmp_path: Path) -> None:
    import torch

    target = {"a": [2, 3], "b": [4], "head": [2], "gone": None}
    (tmp_path / "keys.json").write_text(json.dumps(target))
    given = {"module.a": torch.zeros(2, 3), "module.b": torch.zeros(4), "module.head": torch.zeros(3), "epoch": 3}
    file = save(tmp_path / "a.pt", given)
    found = sdviewer("fit", file, "--target", tmp_path / "keys.json", "--json").json
    assert list(found) == [
        *("target", "before", "after", "before_keys", "after_keys", "recipe", "steps", "map", "warnings"),
    ]
    assert found["target"] == {"kind": "keys", "n_keys": 4, "shapes_known": False}
    assert found["before"] == {"matched": 0, "missing": 4, "unexpected": 4, "mismatched": 0}
    assert found["before_keys"] == {"missing": list(target), "unexpected": list(given), "mismatched": []}
    assert list(found["after"]) == ["matched", "missing", "unexpected", "mismatched"]
    assert found["after_keys"]["missing"] == ["gone"]
    assert found["after_keys"]["mismatched"] == [{"key": "head", "source_shape": [3], "target_shape": [2]}]
    assert list(found["map"]) == list(given)
    assert found["map"]["module.a"] == "a"
    for step in found["steps"]:
        assert list(step) == ["op", "text", "n_keys", "evidence", "examples", "asks", "cautions"]
        assert step["evidence"] in ("proved", "likely", "ambiguous")
        assert all(len(pair) == 2 for pair in step["examples"])
    assert found["steps"][-1]["op"] == "drop" and found["steps"][-1]["evidence"] == "ambiguous"
    assert "head" not in found["recipe"]
    assert [list(warning) for warning in found["warnings"]] == [["code", "keys", "message"]] * len(found["warnings"])
    assert found["warnings"][0]["code"] == "unknown_shapes"
    assert found["warnings"][0]["keys"] == ["gone"]


def test_that_a_recipe_has_no_code_run(sdviewer: Command, tmp_path: Path) -> None:
    file = save(tmp_path / "a.pt", net().state_dict())
    (tmp_path / "net.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n{MODEL}")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "bert"}))
    for named in (tmp_path / "net.py:Net", "net.py:Net", config):
        recipe = tmp_path / "r.toml"
        recipe.write_text(f'format = "sdviewer-recipe/1"\n[target]\nkeys = {json.dumps(str(named))}\n')
        done = sdviewer("repair", file, "--recipe", recipe, "-o", tmp_path / "out.pt", "--json")
        assert done.code in (2, 3)
        assert done.json["error"]["code"] in ("run_needed", "not_found")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out.pt").exists()


def test_that_guesses_and_remedies_are_told(sdviewer: Command, tmp_path: Path) -> None:
    rotary = [(f"attention.w{name}", f"self_attn.{name}_proj") for name in "qk"]
    pairs = [*rotary, ("feed_forward.w3", "mlp.up_proj")]
    source: dict[str, list[int]] = {f"layers.0.{old}.weight": [128, 2048] for old, _ in pairs}
    target: dict[str, list[int]] = {f"model.layers.0.{new}.weight": [128, 2048] for _, new in pairs}
    source |= {f"layers.0.moe.{n}.{name}.weight": [6, 4] for n in range(3) for name in ("w1", "w3")}
    target["model.layers.0.moe.gate_up_proj"] = [3, 12, 4]
    (tmp_path / "source.json").write_text(json.dumps(source))
    (tmp_path / "target.json").write_text(json.dumps(target))
    files = ("fit", tmp_path / "source.json", "--target", tmp_path / "target.json")
    steps = sdviewer(*files, "--json").json["steps"]
    assert [step["asks"] for step in steps if step["op"] == "permute_rope"] == [["heads"]]
    fuse = next(step for step in steps if step["op"] == "fuse")
    against = {"op": "reorder", "order": [1, 0], "dim": 1, "keys": ["model.layers.0.moe.gate_up_proj"]}
    assert fuse["cautions"] == [{"code": "gate_up_order", "steps": [against]}]
    said = sdviewer(*files).out
    assert "heads = 2 is a guess" in said
    written = said[said.index("[[step]]") :].split("\n\n")[0]
    recipe = tmp_path / "against.toml"
    recipe.write_text(f'format = "sdviewer-recipe/1"\n{written}')
    assert sdviewer("script", recipe).code == 0


def test_that_a_text_of_powershell_is_read_from_a_file_and_from_stdin(
    sdviewer: Command, tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save(tmp_path / "a.pt", net().state_dict())
    lines = "\r\n".join(json.loads(keys.read_text()))
    (tmp_path / "lines.txt").write_bytes(lines.encode("utf-16"))
    for target in (tmp_path / "lines.txt", "-"):
        monkeypatch.setattr(sys, "stdin", typed(lines.encode("utf-16")))
        assert sdviewer("fit", file, "--target", target, "--json").json["before"]["missing"] == 0


def test_that_a_program_without_stdin_has_nothing_to_read_there(
    sdviewer: Command, tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    for words in (("fit", keys, "--target", "-"), ("fit", "-", "--target", keys)):
        done = sdviewer(*words)
        assert (done.code, len(done.err.splitlines())) == (3, 1)
    assert sdviewer("repair", keys, "--recipe", "-", "-o", tmp_path / "out.pt").code == 2


def test_that_a_recipe_that_is_no_utf8_is_refused_from_stdin_too(
    sdviewer: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", typed(b'format = "sdviewer-recipe/1"\nname = "\xff"\n'))
    done = sdviewer("script", "-")
    assert done.code == 2
    assert "not UTF-8" in done.err


def test_that_nobody_hears_of_an_error_whose_reader_has_gone(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    words = [sys.executable, "-m", "sdviewer", "fit", "no.pt", "--target", "no.json", "--json"]
    with os.fdopen(theirs, "wb") as out:
        done = subprocess.run(words, stdout=out, stderr=subprocess.PIPE, cwd=tmp_path, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)


def test_that_strict_says_no(sdviewer: Command, tmp_path: Path, keys: Path) -> None:
    file = save(tmp_path / "small.pt", net("small_head").state_dict())
    assert sdviewer("fit", file, "--target", keys, "--json").code == 0
    assert sdviewer("fit", file, "--target", keys, "--strict", "--json").code == 1


def test_that_both_sides_may_be_lists_of_keys(
    sdviewer: Command, tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = json.loads(keys.read_text())
    source = tmp_path / "source.json"
    source.write_text(json.dumps({f"module.{key}": shape for key, shape in shapes.items()}))
    wanted = {f"module.{key}": key for key in shapes}
    found = sdviewer("fit", source, "--target", keys, "-o", tmp_path / "r.toml")
    assert "the checkpoint that the keys are of" in found.out
    assert sdviewer("fit", source, "--target", keys, "--json").json["map"] == wanted

    lines = tmp_path / "source.txt"
    lines.write_text("".join(f"module.{key}\n" for key in shapes))
    named = sdviewer("fit", lines, "--target", keys, "--json").json
    assert named["map"] == wanted
    assert named["after"]["matched"] == len(shapes)

    monkeypatch.setattr(sys, "stdin", typed(source.read_text()))
    assert sdviewer("fit", "-", "--target", keys, "--json").json["map"] == wanted


def test_that_an_error_from_the_terminal_is_a_target(
    sdviewer: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = net().state_dict()
    given = OrderedDict((f"module.{key}", value) for key, value in state.items())
    file = save(tmp_path / "dp.pt", given)
    with pytest.raises(RuntimeError) as failed:
        net().load_state_dict(given)
    monkeypatch.setattr(sys, "stdin", typed(f"RuntimeError: {failed.value}\n"))
    found = sdviewer("fit", file, "--target", "-", "--json", "-o", tmp_path / "r.toml").json
    assert found["target"]["kind"] == "message"
    assert found["map"] == {f"module.{key}": key for key in state}
    monkeypatch.setattr(sys, "stdin", typed(f"RuntimeError: {failed.value}\n"))
    repaired = sdviewer(
        "repair", file, "--recipe", tmp_path / "r.toml", "-o", tmp_path / "dp.fitted.pt", "--target", "-", "--json"
    )
    assert repaired.json["verified"]["target"] is True
    loads(file, state)


def test_that_an_error_about_the_whole_file_asks_for_unwrapping(sdviewer: Command, tmp_path: Path) -> None:
    state = net().state_dict()
    file = save(tmp_path / "last.pt", {"state_dict": state, "epoch": 3})
    inside = OrderedDict((f"module.{key}", value) for key, value in state.items())
    nested = save(tmp_path / "nested.pt", {"state_dict": inside, "epoch": 3})
    for number, given in enumerate(({"state_dict": state, "epoch": 3}, inside)):
        with pytest.raises(RuntimeError) as failed:
            net().load_state_dict(given)  # type: ignore[arg-type]
        (tmp_path / f"{number}.txt").write_text(str(failed.value))
    found = sdviewer("fit", file, "--target", tmp_path / "0.txt", "--json").json
    assert [step["op"] for step in found["steps"]] == ["unwrap"]
    # Who loads what stands inside gets the file back as it is around it.
    found = sdviewer("fit", nested, "--target", tmp_path / "1.txt", "--json").json
    assert [step["op"] for step in found["steps"]] == ["strip"]
    assert 'state_dict = "state_dict"' in found["recipe"]


def test_that_a_checkpoint_with_its_model_inside_keeps_what_is_around(sdviewer: Command, tmp_path: Path) -> None:
    state = net().state_dict()
    inside = OrderedDict((f"module.{key}", value) for key, value in state.items())
    file = save(tmp_path / "old.pt", {"model": inside, "epoch": 3})
    target = save(tmp_path / "new.pt", {"model": state, "epoch": 0})
    found, repaired = fit_and_repair(sdviewer, file, target)
    assert [step["op"] for step in found.json["steps"]] == ["strip"]
    assert repaired.json["verified"]["target"] is True
    assert repaired.json["dropped"] == []


def test_that_several_models_are_listed(sdviewer: Command, tmp_path: Path, keys: Path) -> None:
    state = net().state_dict()
    file = save(tmp_path / "gan.pt", {"model": state, "net": OrderedDict((f"n.{key}", v) for key, v in state.items())})
    failed = sdviewer("fit", file, "--target", keys, "--json")
    assert (failed.code, failed.json["error"]["code"]) == (2, "state_dict")
    found = sdviewer("fit", file, "--target", keys, "--state-dict", "net", "--json").json
    assert found["map"] == {f"n.{key}": key for key in state}
    assert sdviewer("fit", keys, "--target", file, "--json").code == 2
    assert sdviewer("fit", keys, "--target", file, "--state-dict-b", "model", "--json").json["before"]["missing"] == 0


def test_that_the_recipe_is_never_an_input_and_never_written_over(
    sdviewer: Command, tmp_path: Path, keys: Path
) -> None:
    state = net().state_dict()
    file = save(tmp_path / "dp.pt", OrderedDict((f"module.{key}", value) for key, value in state.items()))
    before = file.read_bytes(), keys.read_bytes()
    (tmp_path / "link").hardlink_to(keys)
    for out in (file, keys, tmp_path / "link"):
        failed = sdviewer("fit", file, "--target", keys, "-o", out, "--overwrite")
        assert (failed.code, failed.err.count("\n")) == (2, 1)
    assert (file.read_bytes(), keys.read_bytes()) == before
    (tmp_path / "mine.toml").write_text("mine")
    assert sdviewer("fit", file, "--target", keys, "-o", tmp_path / "mine.toml").code == 4
    assert (tmp_path / "mine.toml").read_text() == "mine"
    assert sdviewer("fit", file, "--target", keys, "-o", tmp_path / "mine.toml", "--overwrite").code == 0
    (tmp_path / "empty.toml").touch()
    assert sdviewer("fit", file, "--target", keys, "-o", tmp_path / "empty.toml").code == 0
    assert sdviewer("fit", file, "--target", keys, "-o", "-").out == (tmp_path / "empty.toml").read_text("utf-8")
    assert sdviewer("fit", file, "--target", keys, "-o", tmp_path / "no" / "where.toml").code == 4


def test_that_what_cannot_be_read_says_so(sdviewer: Command, tmp_path: Path, keys: Path) -> None:
    (tmp_path / "prose.txt").write_text("Dear reader, this is a letter and no list of anything.\n")
    file = save(tmp_path / "fine.pt", net().state_dict())
    assert sdviewer("fit", tmp_path / "none.pt", "--target", keys).code == 3
    assert sdviewer("fit", tmp_path / "prose.txt", "--target", keys).code == 3
    assert sdviewer("fit", file, "--target", tmp_path / "prose.txt").code in (2, 3)
    assert sdviewer("fit", file, "--target", tmp_path / "none.pt").code in (2, 3)
    assert sdviewer("fit", file).code == 2
    assert sdviewer("fit", "-", "--target", "-").code == 2
    assert sdviewer("fit", file, "--target", keys, "--timeout", "0").code == 2
    assert sdviewer("fit", file, "--target", keys, "-o", "-", "--json").code == 2


# A class


@pytest.fixture
def factory(tmp_path: Path) -> str:
    """The model as a file with a factory."""
    (tmp_path / "net.py").write_text(MODEL)
    return f"{tmp_path / 'net.py'}:Net"


def test_that_a_class_is_built_and_really_loads_what_was_written(
    sdviewer: Command, tmp_path: Path, factory: str
) -> None:
    state = net().state_dict()
    file = save(tmp_path / "dp.pt", {"model": OrderedDict((f"module.{key}", value) for key, value in state.items())})
    found, repaired = fit_and_repair(sdviewer, file, factory)
    assert found.json["target"] == {"kind": "class", "n_keys": len(state), "shapes_known": True}
    assert repaired.code == 0
    assert repaired.json["verified"]["target"] is True
    assert any("<All keys matched successfully>" in check for check in repaired.json["checks"])
    loads(file, state)


def test_that_a_class_says_itself_what_it_does_not_take(sdviewer: Command, tmp_path: Path, factory: str) -> None:
    file = save(tmp_path / "small.pt", net("small_head").state_dict())
    found, repaired = fit_and_repair(sdviewer, file, factory, "--accept", "ambiguous")
    assert found.json["after_keys"]["missing"] == ["head.weight", "head.bias"]
    assert repaired.code == 1
    assert repaired.json["verified"]["target"] is False
    assert (tmp_path / "small.fitted.pt").exists()
    said = [warning["message"] for warning in repaired.json["warnings"] if warning["code"] == "target_not_met"]
    assert any('Missing key(s) in state_dict: "head.weight", "head.bias"' in message for message in said)


def test_that_the_file_of_a_class_is_never_written(sdviewer: Command, tmp_path: Path, factory: str, keys: Path) -> None:
    state = net().state_dict()
    file = save(tmp_path / "dp.pt", OrderedDict((f"module.{key}", value) for key, value in state.items()))
    failed = sdviewer("fit", file, "--target", factory, "-o", tmp_path / "net.py", "--overwrite")
    assert failed.code == 2
    assert (tmp_path / "net.py").read_text() == MODEL
    sdviewer("fit", file, "--target", keys, "-o", tmp_path / "r.toml")
    for target, out in ((factory, tmp_path / "net.py"), (keys, keys)):
        refused = sdviewer(
            "repair", file, "--recipe", tmp_path / "r.toml", "-o", out, "--target", target, "--overwrite"
        )
        assert (refused.code, "is an input" in refused.err) == (2, True)


def test_that_a_class_that_takes_too_long_is_ended(sdviewer: Command, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ndef make():\n    time.sleep(600)\n")
    file = save(tmp_path / "fine.pt", net().state_dict())
    failed = sdviewer("fit", file, "--target", f"{tmp_path / 'slow.py'}:make", "--timeout", "2", "--json")
    assert (failed.code, failed.json["error"]["code"]) == (3, "model_timeout")


# What a recipe that was found does


def test_that_program_and_repair_agree_on_a_recipe_that_was_found(sdviewer: Command, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    source = OrderedDict()
    target: dict[str, list[int]] = {}
    for i in range(2):
        source[f"module.blocks.{i}.attn.qkv.weight"] = torch.randn(24, 8)
        target |= {f"layers.{i}.attention.{part}.weight": [8, 8] for part in ("q_proj", "k_proj", "v_proj")}
        for j in range(3):
            source[f"module.blocks.{i}.experts.{j}.w2.weight"] = torch.randn(8, 4)
        target[f"layers.{i}.experts.down_proj"] = [3, 8, 4]
        source[f"module.blocks.{i}.proj.weight"] = torch.randn(8, 5)
        target[f"layers.{i}.proj.weight"] = [5, 8]
        source[f"module.blocks.{i}.norm.weight"] = torch.randn(7)
        target[f"layers.{i}.norm.weight"] = [7]
    (tmp_path / "keys.json").write_text(json.dumps(target))
    file = save(tmp_path / "a.pt", source)
    found, repaired = fit_and_repair(sdviewer, file, tmp_path / "keys.json")
    assert found.json["after"]["matched"] == len(target)
    assert {step["op"] for step in found.json["steps"]} >= {"strip", "split", "stack", "transpose"}
    assert repaired.json["verified"]["target"] is True
    told = {key: value for key, value in repaired.json["map"].items() if key in source}
    assert told == found.json["map"]
    sdviewer("script", file.with_suffix(".toml"), "-o", tmp_path / "fit.py")
    command = [sys.executable, "-I", str(tmp_path / "fit.py"), str(file), str(tmp_path / "by_program.pt")]
    subprocess.run(command, check=True, cwd=tmp_path)
    ours = torch.load(file.with_suffix(".fitted.pt"), weights_only=True)
    theirs = torch.load(tmp_path / "by_program.pt", weights_only=True)
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key].view(torch.int32), theirs[key].view(torch.int32)) for key in ours)
    one = torch.stack([source[f"module.blocks.1.experts.{j}.w2.weight"] for j in range(3)])
    assert torch.equal(ours["layers.1.experts.down_proj"], one)


def test_that_contents_decide_where_names_cannot(sdviewer: Command, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(1)
    wanted = {name: torch.randn(6, 6) for name in ("alpha", "beta", "gamma", "delta")}
    target = save(tmp_path / "b.pt", wanted)
    pairs = {"one": "gamma", "two": "alpha", "three": "delta", "four": "beta"}
    shuffled = {name: wanted[of] for name, of in pairs.items()}
    file = save(tmp_path / "a.pt", shuffled)
    found = sdviewer("fit", file, "--target", target, "--json").json
    assert found["map"] == pairs


def test_that_it_needs_neither_torch_nor_a_window_for_lists_of_keys(tmp_path: Path, keys: Path) -> None:
    source = tmp_path / "source.json"
    source.write_text(json.dumps({f"module.{key}": shape for key, shape in json.loads(keys.read_text()).items()}))
    program = (
        "import sys; from sdviewer.cli.main import run; code = run(sys.argv[1:]); "
        "assert not {'torch', 'PySide6', 'numba'} & set(sys.modules); sys.exit(code)"
    )
    command = [sys.executable, "-c", program, "fit", str(source), "--target", str(keys), "--strict"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stderr) == (0, "")
    assert "Strip prefix" in done.stdout


def test_that_a_model_of_another_kind_is_called_one(sdviewer: Command, tmp_path: Path, keys: Path) -> None:
    import torch

    file = save(tmp_path / "other.pt", {"x": torch.zeros(9, 9, 9), "y": torch.zeros(11)})
    found = sdviewer("fit", file, "--target", keys, "--json").json
    assert found["steps"] == []
    assert found["map"] == {"x": None, "y": None}
    assert "is it the right one?" in sdviewer("fit", file, "--target", keys).out


def test_that_keys_which_differ_in_numbers_alone_are_told_in_one_line(
    sdviewer: Command, tmp_path: Path, keys: Path
) -> None:
    state = net().state_dict()
    file = save(tmp_path / "dp.pt", OrderedDict((f"module.{key}", value) for key, value in state.items()))
    said = sdviewer("fit", file, "--target", keys, "-o", tmp_path / "r.toml").out
    assert "module.blocks.{0–2}.norm1.weight" in said
    assert f"{len(state)} of {len(state)} keys match" in said
    assert (
        f"sdviewer repair {file} --recipe {tmp_path / 'r.toml'} -o {tmp_path / 'dp.fitted.pt'} --target {keys}" in said
    )


@pytest.mark.parametrize("name", ["fifo", "loop", "zeros", ".", "a\0b", "missing", "\udcff", "x:y", ":", "a.b:c"])
def test_that_no_kind_of_path_ends_in_a_traceback(sdviewer: Command, tmp_path: Path, keys: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "zeros").write_bytes(bytes(5000))
    for failed in (
        sdviewer("fit", tmp_path / name, "--target", keys, "--json"),
        sdviewer("fit", keys, "--target", tmp_path / name, "--json"),
    ):
        assert failed.code == 3
        assert failed.err.count("\n") == 1
        assert set(failed.json["error"]) == {"file", "code", "message", "remedy"}


# What is read at midnight


def test_that_the_step_that_resizes_a_head_is_told_as_a_recipe_has_it(
    sdviewer: Command, tmp_path: Path, factory: str
) -> None:
    import torch

    state = net("small_head").state_dict()
    file, recipe = save(tmp_path / "small.pt", state), tmp_path / "r.toml"
    said = sdviewer("fit", file, "--target", factory, "-o", recipe).out
    step = [line.removeprefix("  ") for line in said[said.index("  [[step]]") :].partition("\n\n")[0].split("\n")]
    recipe.write_text("\n".join([recipe.read_text("utf-8"), *step]), "utf-8")
    out = tmp_path / "small.fitted.pt"
    repaired = sdviewer("repair", file, "--recipe", recipe, "-o", out, "--target", factory)
    assert repaired.code == 0
    assert "0 renamed, 2 computed, 0 left out" in repaired.out
    written = torch.load(out, weights_only=True)
    assert str(net().load_state_dict(written)) == "<All keys matched successfully>"
    assert torch.equal(written["head.weight"][:4], state["head.weight"])
    assert not written["head.weight"][4:].any()


def test_that_the_command_that_takes_what_is_not_sure_can_be_typed(
    sdviewer: Command, tmp_path: Path, keys: Path
) -> None:
    file = save(tmp_path / "small head.pt", {"model": net("small_head").state_dict(), "model_ema": net().state_dict()})
    recipe = tmp_path / "r.toml"
    said = sdviewer("fit", file, "--target", keys, "--state-dict", "model", "-o", recipe).out
    (command,) = [line for line in said.splitlines() if "--accept ambiguous -o" in line]
    name, *words = shlex.split(command)
    assert (name, sdviewer(*words).code) == ("sdviewer", 0)
    assert 'keys = ["head.weight", "head.bias"]' in recipe.read_text("utf-8")


def test_that_names_alone_are_not_said_to_load(sdviewer: Command, tmp_path: Path) -> None:
    file = save(tmp_path / "small.pt", net("small_head").state_dict())
    (tmp_path / "keys.txt").write_text("\n".join(net().state_dict()))
    said = sdviewer("fit", file, "--target", tmp_path / "keys.txt").out
    assert "Whether the shapes agree is not known." in said
    assert "loads" not in said


def test_that_what_is_no_tensor_is_called_that(sdviewer: Command, tmp_path: Path, keys: Path) -> None:
    state = {**net().state_dict(), "head.bias": [0.0] * 10}
    found = sdviewer("fit", save(tmp_path / "listed.pt", state), "--target", keys)
    (line,) = [line for line in found.out.splitlines() if "unexpected   " in line]
    assert line.split(maxsplit=2) == ["unexpected", "head.bias", "no tensor in the file"]


def test_that_a_file_without_a_state_dict_cannot_be_fitted(sdviewer: Command, tmp_path: Path, keys: Path) -> None:
    empty = save(tmp_path / "empty.pt", {"epoch": 3})
    for words in ((empty, "--target", keys), (keys, "--target", empty)):
        failed = sdviewer("fit", *words, "--json")
        assert (failed.code, failed.json["error"]["file"]) == (3, str(empty))
        assert failed.json["error"]["remedy"]


def test_that_a_list_of_keys_that_is_none_says_why(sdviewer: Command, tmp_path: Path, keys: Path) -> None:
    (tmp_path / "twice.json").write_text('{"fc.weight": [2], "fc.weight": [3]}')
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    assert "stands in it twice" in sdviewer("fit", tmp_path / "twice.json", "--target", keys).err
    assert "the weights that belong to it" in sdviewer("fit", tmp_path / "config.json", "--target", keys).err


def test_that_a_state_dict_of_a_target_that_has_none_is_wrong_usage(sdviewer: Command, tmp_path: Path) -> None:
    save(tmp_path / "a.pth", OrderedDict(net().state_dict()))
    (tmp_path / "keys.txt").write_text("\n".join(net().state_dict()))
    asked = ("fit", tmp_path / "a.pth", "--target", tmp_path / "keys.txt")
    assert sdviewer(*asked).code == 0
    refused = sdviewer(*asked, "--state-dict-b", "model")
    assert (refused.code, "keys.txt is no checkpoint" in refused.err) == (2, True)
