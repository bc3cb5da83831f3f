"""Key paths: the steps from the root of a checkpoint to one thing in it, and its identity.

Dotted text is for people and is not unique: "a.b" can be one key or two, and 0 can be an index, an int or a str.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias


class TypedStep(NamedTuple):
    """A step that is not a plain str key.

    `type` is one of int, float, bool, none, bytes, tuple, frozenset, dtype, device, object (a key that is not a str;
    `value` is its Python literal as text), index (of a list or tuple), attribute (of an inert object), module,
    parameter, buffer (of a pickled module), part (of a compound tensor), field, class.
    """

    type: str
    value: str


Step: TypeAlias = str | TypedStep
KeyPath: TypeAlias = tuple[Step, ...]


def dotted(path: Iterable[Step]) -> str:
    """Join the steps' texts with dots, for people; not unique."""
    return ".".join([step if isinstance(step, str) else step.value for step in path])


def to_json(path: Iterable[Step]) -> list[str | dict[str, str]]:
    """The form of `docs/cli.md`: a str for a str key, an object for any other step."""
    return [step if isinstance(step, str) else {"type": step.type, "value": step.value} for step in path]
