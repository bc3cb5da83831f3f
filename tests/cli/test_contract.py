"""What every command passes the day it is registered."""

from __future__ import annotations

import importlib
import os
import re
from argparse import ArgumentParser
from pathlib import Path
from typing import cast

import pytest

from sdviewer.cli.main import COMMANDS, Command
from tests.cli.conftest import Command as Run


@pytest.mark.parametrize("name", COMMANDS)
class TestCommand:
    """One entry of COMMANDS."""

    def test_that_it_is_named_like_its_file_and_says_what_it_does(self, name: str) -> None:
        module = cast(Command, importlib.import_module(f"sdviewer.cli.{name}"))
        assert name == module.NAME
        assert module.HELP[0].islower()
        assert not module.HELP.endswith(".")

    def test_that_every_option_is_told_or_plain(self, name: str) -> None:
        module = cast(Command, importlib.import_module(f"sdviewer.cli.{name}"))
        parser = ArgumentParser()
        module.add_arguments(parser)
        assert "--help" in parser.format_help()

    def test_that_an_unknown_option_is_wrong_usage(self, name: str, sdviewer: Run) -> None:
        failed = sdviewer(name, "--no-such-option")
        assert failed.code == 2
        assert failed.err.count("\n") == 1

    def test_that_readme_and_contract_name_it(self, name: str) -> None:
        root = Path(__file__).parents[2]
        for page in ("README.md", "docs/cli.md"):
            assert re.search(rf"sdviewer {name}\b", (root / page).read_text("utf-8")), (page, name)


@pytest.mark.parametrize("command", ["info", "stats", "scan"])
def test_that_no_kind_of_path_ends_in_a_traceback(command: str, sdviewer: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "zeros").write_bytes(bytes(5000))
    for name in ("fifo", "loop", "zero", "zeros", ".", "a\0b", "missing"):
        failed = sdviewer(command, tmp_path / name, "--json")
        assert failed.code == 3
        assert failed.err.count("\n") == 1
        assert failed.json["error"]["code"]
