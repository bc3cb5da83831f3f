"""What `load_state_dict(strict=True)` would make of some keys, from names and shapes alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

from sdviewer.core.key_table import KeyTable

EXTRA_STATE = "_extra_state"
"""Last component of the one key whose value need not be a tensor (torch.nn.modules.module._EXTRA_STATE_KEY_SUFFIX)."""

Shape = tuple[int, ...]


class Mismatch(NamedTuple):
    """A key that both sides have, with another shape."""

    key: str
    source_shape: Shape
    target_shape: Shape


@dataclass(frozen=True, slots=True)
class KeyCheck:
    """What becomes of each key: matched and missing in the target's order, unexpected in the source's.

    Each key of the target is in one of `matched`, `missing` and `mismatched`, if loaders report it. An entry that is no
    tensor is unexpected; dtypes never count.
    """

    matched: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[Mismatch, ...] = ()

    @property
    def loads(self) -> bool:
        """Whether torch would take it without a word."""
        return not (self.missing or self.unexpected or self.mismatched)

    def counts(self) -> dict[str, int]:
        """How many keys are in each."""
        return {
            "matched": len(self.matched),
            "missing": len(self.missing),
            "unexpected": len(self.unexpected),
            "mismatched": len(self.mismatched),
        }

    def keys(self) -> dict[str, Any]:
        """The keys that are in the way, for JSON."""
        return {
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "mismatched": [
                {"key": one.key, "source_shape": list(one.source_shape), "target_shape": list(one.target_shape)}
                for one in self.mismatched
            ],
        }


def check_keys(source: KeyTable, target: KeyTable, unreported: Collection[str] = ()) -> KeyCheck:
    """What loading `source` into a model that asks for `target` would say.

    A key that stands twice counts once: a mapping holds what came last. `unreported` are keys that may be absent
    without a word.
    """
    given = {key: at for at, key in enumerate(source.keys)}
    wanted = {key: at for at, key in enumerate(target.keys) if _is_asked_for(target, at)}
    matched, missing, mismatched = [], [], []
    for key, at in wanted.items():
        there = given.get(key)
        if there is None or not _can_be_loaded(source, there):
            if there is not None or key not in unreported:
                missing.append(key)
            continue
        have, want = source.shapes[there], target.shapes[at]
        if have is None or want is None or _takes(want, have):
            matched.append(key)
        else:
            mismatched.append(Mismatch(key, have, want))
    unexpected = [key for key, at in given.items() if key not in wanted or not _can_be_loaded(source, at)]
    return KeyCheck(tuple(matched), tuple(missing), tuple(unexpected), tuple(mismatched))


def _is_asked_for(target: KeyTable, at: int) -> bool:
    """What is no tensor in a checkpoint is no parameter of its model either."""
    return at not in target.not_tensors or _is_extra_state(target.keys[at])


def _can_be_loaded(source: KeyTable, at: int) -> bool:
    return at not in source.not_tensors or _is_extra_state(source.keys[at])


def _is_extra_state(key: str) -> bool:
    return key.rpartition(".")[2] == EXTRA_STATE


def _takes(want: Shape, have: Shape) -> bool:
    """Whether a parameter of one shape takes a tensor of another: a 0-dim one takes [1], as torch < 0.4 wrote it."""
    return have == want or (not want and have == (1,))
