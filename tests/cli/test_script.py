"""`sdviewer script`: what it writes, and when it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Command, typed


def test_that_the_program_that_is_written_does_what_repair_does(
    sdviewer: Command, training: Path, strip: Path, tmp_path: Path
) -> None:
    import torch

    written = sdviewer("script", strip, "-o", tmp_path / "strip.py")
    assert (written.code, written.out, written.err) == (0, "", "")
    command = [sys.executable, "-I", str(tmp_path / "strip.py"), str(training), str(tmp_path / "by_program.pth")]
    subprocess.run(command, check=True, cwd=tmp_path)
    assert sdviewer("repair", training, "--recipe", strip, "-o", tmp_path / "by_repair.pth").code == 0
    ours = torch.load(tmp_path / "by_repair.pth", weights_only=True)
    theirs = torch.load(tmp_path / "by_program.pth", weights_only=True)
    assert list(theirs) == list(ours) and list(theirs["model"]) == list(ours["model"]) == [
        "fc.weight",
        "fc.bias",
        "tied",
    ]
    for key, tensor in ours["model"].items():
        assert torch.equal(theirs["model"][key].view(torch.int32), tensor.view(torch.int32))
    assert theirs["model"]["tied"].data_ptr() == theirs["model"]["fc.weight"].data_ptr()


def test_that_it_goes_to_stdout_from_stdin(
    sdviewer: Command, strip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdviewer("script", strip, "-o", tmp_path / "strip.py")
    monkeypatch.setattr(sys, "stdin", typed(strip.read_text("utf-8")))
    assert sdviewer("script", "-").out == (tmp_path / "strip.py").read_text("utf-8")


def test_that_nothing_is_written_over(sdviewer: Command, strip: Path, tmp_path: Path) -> None:
    out = tmp_path / "there.py"
    out.write_text("mine")
    assert sdviewer("script", strip, "-o", out).code == 4
    assert out.read_text() == "mine"
    assert sdviewer("script", strip, "-o", out, "--overwrite").code == 0
    assert "def repair" in out.read_text("utf-8")
    before = strip.read_bytes()
    assert sdviewer("script", strip, "-o", strip, "--overwrite").code == 2
    assert strip.read_bytes() == before


def test_that_what_is_no_recipe_or_cannot_be_said_ends_with_2(sdviewer: Command, strip: Path, tmp_path: Path) -> None:
    assert sdviewer("script", tmp_path / "missing.toml").code == 2
    text = strip.read_text("utf-8")
    for more, said in (
        ("[[step]]\nop = 'what'\n", "unknown operation"),
        ("[save]\nmax_shard_size = '1GB'\n", "cannot be said as a program yet"),
        ("[save]\nformat = 'npz'\n", "cannot be said as a program yet: npz"),
    ):
        (tmp_path / "other.toml").write_text(text + more)
        failed = sdviewer("script", tmp_path / "other.toml", "-o", tmp_path / "other.py")
        assert failed.code == 2 and said in failed.err and failed.err.count("\n") == 1
        assert not (tmp_path / "other.py").exists()


def test_that_writing_a_program_imports_no_torch(strip: Path) -> None:
    code = "import sys; from sdviewer.cli.main import run; sys.exit(run(sys.argv[1:]) or 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "script", str(strip)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_that_a_recipe_is_said_for_loaders(sdviewer: Command, strip: Path, tmp_path: Path) -> None:
    done = sdviewer("script", strip, "--as", "key_mapping")
    assert done.code == 0
    names: dict[str, object] = {}
    exec(done.out, names)
    assert names["key_mapping"] == {r"^module\.": ""}
    out = tmp_path / "hook.py"
    assert sdviewer("script", strip, "--as", "pre_hook", "-o", out).code == 0
    assert "def repair(" in out.read_text()


def test_that_a_loader_is_given_the_keys_of_a_checkpoint(sdviewer: Command, tmp_path: Path) -> None:
    import torch

    recipe = tmp_path / "counted.toml"
    recipe.write_text(
        'format = "sdviewer-recipe/1"\n[[step]]\nop = "rename"\nrules = [["fc{i}.{p}", "{i-1}.{p}"]]\n',
        encoding="utf-8",
    )
    file = tmp_path / "a.pth"
    torch.save({"fc1.weight": torch.zeros(1), "fc2.weight": torch.zeros(1)}, file)
    assert sdviewer("script", recipe, "--as", "revise_keys").code == 2
    done = sdviewer("script", recipe, "--as", "revise_keys", "--for", file)
    names: dict[str, object] = {}
    exec(done.out, names)
    assert names["revise_keys"] == [(r"^fc1\.([^.]+)$", r"0.\1"), (r"^fc2\.([^.]+)$", r"1.\1")]


def test_that_a_checkpoint_is_asked_for_with_a_loader_only(sdviewer: Command, strip: Path) -> None:
    assert sdviewer("script", strip, "--for", strip).code == 2
    assert sdviewer("script", strip, "--as", "keras").code == 2
