"""How a program fails: one line, and the exit codes of `sdviewer repair`."""

from __future__ import annotations


class RecipeError(Exception):
    """Why nothing is written, with the exit code of `sdviewer repair`: 1 where the recipe does not fit the file."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
