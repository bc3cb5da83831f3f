from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from sdviewer.core.checkpoint import ValueInfo
from sdviewer.core.paths import TypedStep
from sdviewer.core.series.metrics import (
    best_step,
    find_metrics,
    numbers_of,
    rule_of,
    scalar_metrics,
    shortest_names,
)
from tests.core.builders import checkpoint, tensor


def metric(name: str, values: Sequence[float]) -> dict[str, tuple[int, str, str]]:
    return {one.name: (one.best, one.rule, one.words) for one in find_metrics([{name: value} for value in values])}


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("best_acc1", "highest"),
        ("val_loss", "lowest"),
        ("valAcc", "highest"),
        ("callbacks.ModelCheckpoint.best_model_score", "highest"),
        ("metrics.val/mIoU", "highest"),
        ("test_err5", "lowest"),
        ("perplexity", "lowest"),
        ("top5", "highest"),
        ("epoch", ""),
        ("best_epoch", ""),
        ("lr", ""),
        ("loss_weight", ""),
        ("happiness", ""),
    ],
)
def test_that_which_way_is_better_goes_by_the_name(name: str, rule: str) -> None:
    assert rule_of(name) == rule


def test_that_the_best_is_the_first_of_the_highest_accuracies() -> None:
    assert metric("acc", [0.1, 0.7, 0.7, 0.3])["acc"] == (1, "highest", "highest acc")


def test_that_the_best_loss_is_the_lowest_and_nan_is_none() -> None:
    assert metric("loss", [2.0, math.nan, 0.5, 0.9])["loss"][:2] == (2, "lowest")


def test_that_a_best_so_far_marks_the_file_that_reached_it_first() -> None:
    """The files after it keep its number, and are worse."""
    assert metric("best_acc1", [50.0, 70.0, 70.0])["best_acc1"] == (1, "highest", "first with the highest best_acc1")


def test_that_what_does_not_vary_or_stands_in_one_file_is_no_metric() -> None:
    assert find_metrics([{"seed": 1.0, "acc": 0.5}, {"seed": 1.0}]) == []


def test_that_accuracies_of_validation_come_before_losses_and_counts() -> None:
    files = [{"epoch": e, "loss": 1 / e, "acc": e, "val_acc": e, "lr": 1 / e} for e in (1.0, 2.0)]
    assert [one.name for one in find_metrics(files)] == ["val_acc", "acc", "loss", "lr", "epoch"]


def test_that_a_metric_without_a_rule_has_no_best() -> None:
    assert best_step([1.0, 2.0], "") == -1
    assert best_step([math.nan, math.inf], "highest") == -1


def test_that_numbers_are_taken_from_values_and_not_from_lists_but_the_learning_rate() -> None:
    group = ("optimizer", "param_groups", TypedStep("index", "0"))
    made = checkpoint(
        {"w": (2,)},
        values=[
            ValueInfo(("loss",), "float", 0.5),
            ValueInfo(("bad",), "float", "nan"),
            ValueInfo(("name",), "str", "7"),
            ValueInfo(("done",), "bool", True),
            ValueInfo(("count",), "int", 10**400),
            ValueInfo(("losses", TypedStep("index", "3")), "float", 0.25),
            ValueInfo((*group, "lr"), "float", 0.1),
            ValueInfo((*group, "betas"), "float", 0.9),
        ],
    )
    found = numbers_of(made)
    assert math.isnan(found.pop("bad"))
    assert found == {"loss": 0.5, "optimizer.param_groups.0.lr": 0.1}


def test_that_tensors_of_one_number_named_like_a_metric_are_found() -> None:
    tensors = [
        tensor(("best_acc1",), None, ()),
        tensor(("state_dict", "bn.num_batches_tracked"), "bn.num_batches_tracked", ()),
        tensor(("scores",), None, (4,)),
    ]
    assert scalar_metrics(tensors) == [(0, "best_acc1")]


def test_that_names_are_shortened_as_far_as_they_tell_apart() -> None:
    assert shortest_names(["a.lr", "b.lr", "x.loss"]) == {"a.lr": "a.lr", "b.lr": "b.lr", "x.loss": "loss"}
