from __future__ import annotations

from typing import Any

from sdviewer.core.checkpoint import ValueInfo
from sdviewer.core.paths import TypedStep
from sdviewer.core.value_diff import value_differences


def values(**named: Any) -> list[ValueInfo]:
    return [ValueInfo((name,), f"builtins.{type(value).__name__}", value) for name, value in named.items()]


def test_that_leaves_of_another_value_or_type_differ_and_nan_is_itself() -> None:
    a = values(epoch=1, lr=0.1, best=float("nan"), flag=True, whole=1, gone="x", same=[1, 2])
    b = values(new=None, same=[1, 2], whole=1.0, flag=1, best=float("nan"), lr=0.1, epoch=2)
    found = [(one.dotted, one.a and one.a.value, one.b and one.b.value) for one in value_differences(a, b)]
    assert found == [
        ("epoch", 1, 2), ("flag", True, 1), ("whole", 1, 1.0), ("gone", "x", None), ("new", None, None),
    ]  # fmt: skip
    assert value_differences(a, b)[-1].a is None


def test_that_leaves_of_one_dotted_name_are_told_apart_by_their_order() -> None:
    a = [ValueInfo((step,), "builtins.int", value) for step, value in ((TypedStep("int", "0"), 1), ("0", 2))]
    b = [ValueInfo((step,), "builtins.int", value) for step, value in ((TypedStep("int", "0"), 1), ("0", 3))]
    assert [(one.dotted, one.a and one.a.value, one.b and one.b.value) for one in value_differences(a, b)] == [
        ("0", 2, 3)
    ]
