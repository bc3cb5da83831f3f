"""The contract of the command line: fields, exit codes, what goes where."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Command


def test_that_info_tells_everything_of_the_header(sdviewer: Command, training: Path) -> None:
    found = sdviewer("info", training, "--json").json
    assert found["container"] == "torch-zip"
    assert found["size"] == training.stat().st_size
    assert [(s["dotted"], s["role"], s["tensors"], s["parameters"]) for s in found["state_dicts"]] == [
        ("model", "model", 3, 14),
        ("ema", "ema", 3, 14),
        ("optimizer", "optimizer", 1, 6),
    ]
    assert found["state_dicts"][0]["bytes"] == 32  # the shared storage once
    first = found["tensors"][0]
    assert first["path"] == ["model", "module.fc.weight"]
    assert first["key"] == "module.fc.weight"
    assert (first["shape"], first["dtype"], first["stride"]) == ([2, 3], "float32", [3, 1])
    assert first["storage"] == found["tensors"][2]["storage"]
    step = found["tensors"][6]["path"][2]
    assert step == {"type": "int", "value": "0"}
    values = {value["dotted"]: (value["type"], value["value"]) for value in found["values"]}
    assert values["epoch"] == ("builtins.int", 3) or values["epoch"] == ("int", 3)
    assert values["note"][1] == "ünï\u202e"
    assert found["problems"] == []


def test_that_info_for_people_escapes_what_a_terminal_would_act_on(sdviewer: Command, training: Path) -> None:
    shown = sdviewer("info", training).out
    assert "\\u202e" in shown
    assert "\u202e" not in shown
    assert "model.module.fc.weight" in shown


def test_that_stats_are_over_the_finite_values(sdviewer: Command, training: Path) -> None:
    rows = {row["dotted"]: row for row in sdviewer("stats", training, "--hash", "--json").json["tensors"]}
    weight = rows["model.module.fc.weight"]
    assert (weight["count"], weight["min"], weight["max"], weight["mean"], weight["zeros"]) == (6, 0.0, 5.0, 2.5, 1)
    assert weight["std"] == pytest.approx((35 / 12) ** 0.5, rel=1e-15)
    import numpy as np

    assert weight["sha256"] == hashlib.sha256(np.arange(6, dtype="<f4").tobytes()).hexdigest()
    fields = "path dotted shape dtype count nan posinf neginf zeros min max mean std absmean l2 sha256"
    assert set(weight) == set(fields.split())
    bias = rows["model.module.fc.bias"]
    assert (bias["nan"], bias["min"], bias["std"]) == (1, 1.0, 0.0)


def test_that_stats_take_patterns_and_refuse_one_that_matches_nothing(sdviewer: Command, training: Path) -> None:
    found = sdviewer("stats", training, "--key", "model.**.weight", "--key", "optimizer.**", "--json").json
    assert [row["dotted"] for row in found["tensors"]] == ["model.module.fc.weight", "optimizer.state.0.exp_avg"]
    refused = sdviewer("stats", training, "--key", "nothing.*", "--json")
    assert refused.code == 2
    assert refused.json["error"]["code"] == "no_match"
    assert refused.err.count("\n") == 1


def test_that_a_state_dict_can_be_named(sdviewer: Command, training: Path) -> None:
    found = sdviewer("info", training, "--state-dict", "ema", "--json").json
    assert {tensor["path"][0] for tensor in found["tensors"]} == {"ema"}
    refused = sdviewer("info", training, "--state-dict", "nowhere", "--json")
    assert refused.code == 2
    assert "ema" in refused.json["error"]["message"] + refused.json["error"]["remedy"]


def test_that_a_repair_changes_the_keys_and_nothing_else(sdviewer: Command, training: Path, strip: Path) -> None:
    import torch

    out = training.with_name("out.pth")
    report = sdviewer("repair", training, "--recipe", strip, "-o", out, "--json")
    assert report.code == 0
    receipt = report.json
    assert receipt["output"] == str(out)
    assert receipt["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert (receipt["written"], receipt["dropped"], receipt["computed_bytes"]) == (3, [], 0)
    assert receipt["map"]["module.fc.weight"] == "fc.weight"
    assert receipt["verified"] == {
        "keys": True,
        "bits": True,
        "sharing": True,
        "weights_only": True,
        "target": None,
        "source_unchanged": True,
    }
    before, after = torch.load(training, weights_only=True), torch.load(out, weights_only=True)
    assert list(after["model"]) == ["fc.weight", "fc.bias", "tied"]
    assert list(after["ema"]) == list(before["ema"])
    assert after["epoch"] == 3
    for old, new in zip(before["model"].values(), after["model"].values(), strict=True):
        assert torch.equal(old.view(torch.int32), new.view(torch.int32))
    assert after["model"]["tied"].data_ptr() == after["model"]["fc.weight"].data_ptr()


def test_that_a_dry_run_writes_nothing(sdviewer: Command, training: Path, strip: Path) -> None:
    out = training.with_name("out.pth")
    receipt = sdviewer("repair", training, "--recipe", strip, "-o", out, "--dry-run", "--json").json
    assert (receipt["output"], receipt["sha256"], receipt["verified"]) == (None, None, None)
    assert receipt["written"] == 3
    assert not out.exists()


@pytest.mark.parametrize(
    ("recipe", "code", "word"),
    [
        ("not toml [", 2, "recipe"),
        ('format = "sdviewer-recipe/1"\n[[step]]\nop = "cast"\ndtype = "float31"\n', 2, "float31"),
        ('format = "sdviewer-recipe/1"\n[[step]]\nop = "strip"\nprefix = "nowhere."\n', 1, "nowhere."),
        ('format = "sdviewer-recipe/1"\n[[step]]\nop = "rename"\nrules = [["**", "same"]]\n', 1, "same"),
        ('format = "sdviewer-recipe/1"\n[source]\nforbid = ["module.**"]\n', 1, "module"),
        ('format = "sdviewer-recipe/1"\n[source]\nstate_dict = "nope"\n', 1, "nope"),
    ],
)
def test_that_a_recipe_that_fails_says_how_and_writes_nothing(
    sdviewer: Command, training: Path, tmp_path: Path, recipe: str, code: int, word: str
) -> None:
    path, out = tmp_path / "recipe.toml", tmp_path / "out.pth"
    path.write_text(recipe)
    failed = sdviewer("repair", training, "--recipe", path, "-o", out, "--json")
    assert failed.code == code
    assert word in failed.json["error"]["message"] + failed.json["error"]["remedy"]
    assert failed.err.count("\n") == 1
    assert not out.exists()


def test_that_out_is_never_an_input(sdviewer: Command, training: Path, strip: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.pth"
    os.link(training, link)
    before = training.read_bytes()
    for out in (training, link, strip):
        failed = sdviewer("repair", training, "--recipe", strip, "-o", out, "--overwrite", "--json")
        assert failed.code == 2
    assert training.read_bytes() == before
    assert strip.read_text().startswith("format")


def test_that_an_existing_file_is_replaced_only_when_told(
    sdviewer: Command, training: Path, strip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.pth"
    out.write_text("mine")
    assert sdviewer("repair", training, "--recipe", strip, "-o", out).code == 4
    assert out.read_text() == "mine"
    assert sdviewer("repair", training, "--recipe", strip, "-o", out, "--overwrite").code == 0
    assert out.read_bytes()[:2] == b"PK"


def test_that_a_recipe_can_come_from_stdin(
    sdviewer: Command, training: Path, strip: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with strip.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert sdviewer("repair", training, "--recipe", "-", "-o", tmp_path / "out.pth").code == 0


def test_that_scan_says_why_the_enum_of_an_older_python_is_unknown(sdviewer: Command, tmp_path: Path) -> None:
    file = tmp_path / "enum.pkl"
    enum = b"ctorch.distributed.checkpoint.metadata\n_MEM_FORMAT_ENCODING\n"
    file.write_bytes(b"\x80\x02cbuiltins\ngetattr\n" + enum + b"X\x01\0\0\0A\x86R.")
    found = sdviewer("scan", file)
    assert found.code == 0
    assert "unknown" in found.out
    assert "Python before 3.11.4 pickles a member of an enum so" in found.out
    other = tmp_path / "other.pkl"
    other.write_bytes(b"\x80\x02cmine\nThing\n)\x81.")
    assert "3.11.4" not in sdviewer("scan", other).out


def test_that_scan_tells_clean_from_dangerous(sdviewer: Command, training: Path, tmp_path: Path) -> None:
    clean = sdviewer("scan", training, "--json")
    assert (clean.code, clean.json["verdict"], clean.json["weights_only_would_load"]) == (0, "clean", True)
    evil = tmp_path / "evil.pkl"
    evil.write_bytes(b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R.")
    found = sdviewer("scan", evil, "--json")
    assert (found.code, found.json["verdict"]) == (1, "dangerous")
    (name,) = found.json["globals"]
    assert (name["name"], name["class"], name["called"]) == ("posix.system", "dangerous", True)
    assert "'true'" in name["call"]
    broken = tmp_path / "broken.pkl"
    broken.write_bytes(b"\x80\x02}q\0X\xff")
    assert sdviewer("scan", broken, "--json").json["complete"] is False


def test_that_a_file_that_is_none_ends_with_one_line(sdviewer: Command, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pth"
    wrong.write_text("<!doctype html><html>")
    for command in ("info", "stats", "scan"):
        failed = sdviewer(command, wrong, "--json")
        assert failed.code == 3
        assert failed.err.startswith(f"sdviewer: {wrong}: ")
        assert failed.err.count("\n") == 1
        assert failed.json["error"]["file"] == str(wrong)
    assert sdviewer("info", tmp_path / "missing.pth").code == 3


@pytest.mark.parametrize(
    "argv", [["info"], ["info", "a", "b"], ["repair", "x"], ["--nonsense"], ["diff", "a"], ["info", "--js", "x"]]
)
def test_that_wrong_usage_is_one_line_and_exit_2(sdviewer: Command, argv: list[str]) -> None:
    failed = sdviewer(*argv)
    assert failed.code == 2
    assert failed.err.startswith("sdviewer: ")
    assert failed.err.count("\n") == 1


def process(*argv: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "sdviewer", *map(str, argv)], capture_output=True, text=True)


def test_that_a_closed_pipe_is_silent(training: Path) -> None:
    command = f'"{sys.executable}" -m sdviewer info "{training}" | true'
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stderr == ""


IMPORTED = """
import json, sys
from sdviewer.cli.main import run
code = run(sys.argv[1:])
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""


@pytest.mark.parametrize("command", ["info", "scan", "repair", "stats"])
def test_that_a_command_imports_neither_torch_nor_qt(training: Path, strip: Path, command: str) -> None:
    argv = [command, str(training)]
    if command == "repair":
        argv += ["--recipe", str(strip), "-o", str(training.with_name("o.pth")), "--dry-run"]
    done = subprocess.run([sys.executable, "-c", IMPORTED, *argv], capture_output=True, text=True)
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0
    assert not {"torch", "PySide6", "pyqtgraph"} & set(modules)


def test_that_a_module_planted_in_the_current_folder_is_not_imported(training: Path, tmp_path: Path) -> None:
    for name in ("numpy", "json", "struct", "torch", "sdviewer"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('planted')")
    from sdviewer.engine.client import worker_command

    done = subprocess.run(worker_command("document"), cwd=tmp_path, input=b"", capture_output=True)
    assert b"planted" not in done.stderr
    assert done.returncode == 0


def test_that_version_needs_next_to_nothing() -> None:
    done = process("--version")
    assert done.stdout.startswith("sdviewer ")
    assert done.returncode == 0
