"""A recipe that takes tensors of another file, on the command line: where that file is sought, and exit codes."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Command, typed

RECIPE = 'format = "sdviewer-recipe/1"\n[[step]]\nop = "take"\nfrom = "sub/b.pth"\nkeys = ["fc.weight"]\n'


@pytest.fixture
def recipe(tmp_path: Path, training: Path) -> Path:
    """A recipe in a folder of its own, with the other file below it."""
    import torch

    (tmp_path / "fixes" / "sub").mkdir(parents=True)
    torch.save({"fc.weight": torch.full((2, 3), 7.0)}, tmp_path / "fixes" / "sub" / "b.pth")
    (tmp_path / "fixes" / "fix.toml").write_text(RECIPE)
    return tmp_path / "fixes" / "fix.toml"


def test_that_a_relative_path_is_relative_to_the_recipe(
    sdviewer: Command, training: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.safetensors"
    ran = sdviewer("repair", training, "--recipe", recipe, "-o", out, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["taken"] == [{"file": str(recipe.parent / "sub" / "b.pth"), "tensors": 1}]
    # from stdin there is no recipe's folder: the current one
    monkeypatch.setattr(sys, "stdin", typed(RECIPE))
    assert sdviewer("repair", training, "--recipe", "-", "-o", out, "--overwrite").code == 3
    monkeypatch.chdir(recipe.parent)
    monkeypatch.setattr(sys, "stdin", typed(RECIPE))
    assert sdviewer("repair", training, "--recipe", "-", "-o", out, "--overwrite").code == 0


def test_that_a_dry_run_names_the_file_and_writes_nothing(
    sdviewer: Command, training: Path, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.pth"
    ran = sdviewer("repair", training, "--recipe", recipe, "-o", out, "--dry-run")
    assert ran.code == 0
    assert f"taken: 1 tensor from {recipe.parent / 'sub' / 'b.pth'}" in ran.out
    assert not out.exists()


def test_that_the_exit_codes_tell_what_is_wrong_with_the_other_file(
    sdviewer: Command, training: Path, recipe: Path, tmp_path: Path
) -> None:
    other = recipe.parent / "sub" / "b.pth"
    before = other.read_bytes()

    def code(out: Path = tmp_path / "out.pth") -> tuple[int, str]:
        ran = sdviewer("repair", training, "--recipe", recipe, "-o", out, "--overwrite", "--json")
        return ran.code, ran.json["error"]["code"]

    assert code(other) == (2, "usage")
    assert other.read_bytes() == before
    other.unlink()
    assert code() == (3, "not_found")
    os.mkfifo(other)
    assert code() == (3, "not_a_file")
    other.unlink()
    import torch

    torch.save({"fc.bias": torch.ones(2)}, other)
    assert code() == (1, "no_match")
    torch.save({"a": {"fc.weight": torch.ones(2)}, "b": {"fc.weight": torch.ones(2)}}, other)
    assert code() == (2, "state_dict")
    assert not (tmp_path / "out.pth").exists()


def test_that_the_program_seeks_the_file_beside_itself(
    sdviewer: Command, training: Path, recipe: Path, tmp_path: Path
) -> None:
    import torch

    beside, elsewhere = recipe.with_name("fix.py"), tmp_path / "fix.py"
    assert sdviewer("script", recipe, "-o", beside).code == 0
    assert sdviewer("script", recipe, "-o", elsewhere).code == 0
    assert 'from_="sub/b.pth"' in beside.read_text("utf-8")
    assert 'from_="fixes/sub/b.pth"' in elsewhere.read_text("utf-8")
    assert f'from_="{recipe.parent / "sub" / "b.pth"}"' in sdviewer("script", recipe).out

    def program(out: Path) -> int:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.chdir("/")
            patch.setattr(sys, "argv", ["", str(training), str(out), "--overwrite"])
            runpy.run_path(str(beside), run_name="__main__")
        return int(str(ended.value.code))

    assert program(tmp_path / "out.pth") == 0
    assert torch.load(tmp_path / "out.pth")["model"]["fc.weight"].tolist() == [[7] * 3] * 2
    other = recipe.parent / "sub" / "b.pth"
    before = other.read_bytes()
    assert program(other) == 2
    assert other.read_bytes() == before
