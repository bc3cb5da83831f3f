"""Restricting a step to some keys: to those below a module, those a search finds, or all but a few that collide."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from sdviewer.errors import UsageError
from sdviewer.repair.operations import Operation, Take, Unwrap
from sdviewer.repair.operations.choice import Choice
from sdviewer.repair.operations.file_operation import FileOperation
from sdviewer.repair.operations.whole_file import WholeFile
from sdviewer.repair.patterns import FULL, SEARCH, compile_pattern, literal_pattern, split_flags

MOST_KEYS = 2000
"""Keys that a step names one by one, at most: a longer list says nothing to a person any more."""
MOST_SKIPPED = 200
"""Keys that a step is told to leave as they are, at most."""


def below(prefix: str) -> str:
    """The pattern of all keys below a module path that ends with its dot."""
    literal = literal_pattern(prefix)
    return f"{literal}**" if literal == prefix else f"{literal}.*"


def restricted(operation: Operation, patterns: Sequence[str]) -> Operation:
    """The operation on the keys that one of the patterns means; itself where it names its keys anyway.

    Raises:
        UsageError: there are more patterns than a step may name.
    """
    if not patterns or not can_be_restricted(operation):
        return operation
    if len(patterns) > MOST_KEYS:
        raise UsageError(
            f"more than {MOST_KEYS:,} keys would have to be named one by one",
            remedy="Choose their modules, or the whole state dict.",
        )
    return replace(operation, keys=tuple(dict.fromkeys(patterns)))


def can_be_restricted(operation: Operation) -> bool:
    """Whether `keys` says of this operation on which keys it works, and nothing else."""
    return not isinstance(operation, Choice | Take) and not is_for_file(operation)


def is_for_file(operation: Operation) -> bool:
    """Whether it works on the file as a whole, whatever its keys are."""
    return isinstance(operation, FileOperation | Unwrap | WholeFile)


def common_part(keys: Sequence[str]) -> str:
    """The longest run of components that every key has; of equal ones the last."""
    if not keys:
        return ""
    first = keys[0].rstrip(".").split(".")
    best = ""
    for start in range(len(first)):
        for end in range(len(first), start, -1):
            part = ".".join(first[start:end])
            if len(part) < len(best):
                break
            if all(f".{part}." in f".{key.rstrip('.')}." for key in keys):
                best = part
                break
    return best


def without(operation: Operation, skipped: Collection[str]) -> Operation:
    """The operation on all its keys but these.

    Raises:
        UsageError: there are too many to be named.
    """
    if not skipped:
        return operation
    if len(skipped) > MOST_SKIPPED:
        raise UsageError(f"more than {MOST_SKIPPED:,} keys would have to be left out")
    return replace(operation, keys=tuple(_all_but(operation.keys or (SEARCH + "^",), skipped)))


def _all_but(patterns: Iterable[str], skipped: Collection[str]) -> list[str]:
    """Patterns for the same keys but the skipped ones; a literal one goes, any other looks ahead."""
    ahead = f"(?!(?:{'|'.join(map(re.escape, sorted(skipped)))})\\Z)"
    found = []
    for text in patterns:
        pattern = compile_pattern(text)
        if pattern.literal is not None:
            if pattern.literal not in skipped:
                found.append(text)
        elif text.startswith(SEARCH):
            flags, body = split_flags(text[len(SEARCH) :])
            found.append(f"{SEARCH}{flags}^{ahead}{'' if body == '^' else f'(?s:.*?)(?:{body})'}")
        elif text.startswith(FULL):
            flags, body = split_flags(text[len(FULL) :])
            found.append(f"{FULL}{flags}{ahead}(?:{body})")
        else:
            assert pattern.regex is not None
            found.append(f"{FULL}{ahead}(?s:{pattern.regex.pattern})")
    if not found:
        raise UsageError("no key is left")
    return found
