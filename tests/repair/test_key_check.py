"""What a strict load makes of keys: counted as torch does, and compared with torch itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.key_check import KeyCheck, Mismatch, check_keys

Shapes = Mapping[str, tuple[int, ...] | None]


def table(shapes: Shapes, not_tensors: tuple[str, ...] = ()) -> KeyTable:
    keys = tuple(shapes)
    return KeyTable(
        keys, list(shapes.values()), [""] * len(keys), not_tensors=frozenset(keys.index(key) for key in not_tensors)
    )


def test_that_every_key_of_the_target_is_in_one_list_and_in_its_order() -> None:
    source = table({"b": (2,), "x": (1,), "a": (3,), "c": (4, 4)})
    target = table({"a": (3,), "b": (2,), "d": (1,), "c": (4,)})
    found = check_keys(source, target)
    assert found == KeyCheck(("a", "b"), ("d",), ("x",), (Mismatch("c", (4, 4), (4,)),))
    assert found.counts() == {"matched": 2, "missing": 1, "unexpected": 1, "mismatched": 1}
    assert not found.loads


def test_that_an_unknown_shape_is_no_other_shape() -> None:
    assert check_keys(table({"a": None}), table({"a": (3,)})).loads
    assert check_keys(table({"a": (3,)}), table({"a": None})).loads


def test_that_what_is_no_tensor_is_unexpected_and_its_key_missing() -> None:
    found = check_keys(table({"a": None, "epoch": None}, ("a", "epoch")), table({"a": (3,)}))
    assert (found.missing, found.unexpected) == (("a",), ("a", "epoch"))


def test_that_extra_state_may_be_no_tensor_and_another_value_of_a_checkpoint_is_not_asked_for() -> None:
    source = table({"a": (3,), "m._extra_state": None}, ("m._extra_state",))
    assert check_keys(source, source).loads
    assert check_keys(table({"a": (3,)}), table({"a": (3,), "epoch": None}, ("epoch",))).loads
    assert check_keys(table({"a": (3,)}), source).missing == ("m._extra_state",)


def test_that_a_key_that_stands_twice_counts_once() -> None:
    twice = KeyTable(("a", "a"), [(1,), (3,)], ["", ""])
    assert check_keys(twice, table({"a": (3,)})) == KeyCheck(("a",))


@pytest.mark.parametrize(
    "given",
    [
        {"w": (2, 3), "s": (), "n": (4,)},
        {"w": (2, 3), "s": (1,), "n": (4,)},
        {"w": (2, 3), "s": (1, 1), "n": (4,)},
        {"w": (3, 2), "s": (), "n": (1,)},
        {"w": (2, 3), "other": (1,)},
        {"module.w": (2, 3), "module.s": (), "module.n": (4,)},
        {"w": (2, 3), "s": (), "n": (4,), "w.more": (1,)},
        {},
    ],
)
def test_that_it_says_what_torch_says(given: dict[str, tuple[int, ...]]) -> None:
    import torch

    model = torch.nn.Module()
    for name, shape in {"w": (2, 3), "s": (), "n": (4,)}.items():
        setattr(model, name, torch.nn.Parameter(torch.zeros(shape)))
    found = check_keys(table(given), table({key: tuple(value.shape) for key, value in model.state_dict().items()}))
    said: Any = ""
    try:
        model.load_state_dict({key: torch.zeros(shape) for key, shape in given.items()})
    except RuntimeError as error:
        said = str(error)
    assert found.loads is not bool(said)
    assert all(f'"{key}"' in said.partition("Unexpected")[0] for key in found.missing)
    assert all(f'"{key}"' in said.partition("Unexpected")[2] for key in found.unexpected)
    assert [f"size mismatch for {one.key}:" in said for one in found.mismatched] == [True] * said.count("size mismatch")
