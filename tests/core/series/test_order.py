from __future__ import annotations

import pytest

from sdviewer.core.checkpoint import ValueInfo
from sdviewer.core.series.order import Dated, is_shard, natural, order, steps_in


def labels(*names: str) -> tuple[str, ...]:
    return order([Dated(name) for name in names]).labels


def test_that_epochs_are_ordered_as_numbers_and_not_as_text() -> None:
    found = order([Dated("net_epoch10.pth"), Dated("net_epoch9.pth"), Dated("net_epoch2.pth")])
    assert found.places == (2, 1, 0)
    assert found.labels == ("2", "9", "10")
    assert (found.unit, found.by) == ("epoch", "the epoch in the names")


def test_that_a_number_that_all_names_share_is_not_the_step() -> None:
    assert labels("resnet50_epoch_12.pth", "resnet50_epoch_3.pth") == ("3", "12")


def test_that_of_two_numbers_the_one_that_tells_files_apart_counts() -> None:
    """Lightning saves several times an epoch."""
    names = ("epoch=0-step=900.ckpt", "epoch=0-step=1800.ckpt", "epoch=1-step=2700.ckpt")
    found = order([Dated(name) for name in reversed(names)])
    assert (found.unit, found.labels) == ("step", ("900", "1800", "2700"))


def test_that_folders_of_steps_are_ordered_by_their_names() -> None:
    found = order([Dated("checkpoint-1000"), Dated("checkpoint-500")])
    assert (found.unit, found.labels) == ("step", ("500", "1000"))


def test_that_thousands_may_be_written_with_a_letter() -> None:
    assert labels("net_100k.pt", "net_20k.pt", "net_1m.pt") == ("20000", "100000", "1000000")


def test_that_the_step_in_the_files_counts_where_names_have_none() -> None:
    found = order([Dated("late.pth", 1, {"epoch": 9.0}), Dated("early.pth", 2, {"epoch": 1.0})])
    assert (found.places, found.labels, found.by) == ((1, 0), ("1", "9"), "the epoch that each file states")


def test_that_a_best_file_among_epochs_is_placed_by_what_it_states() -> None:
    files = [Dated(f"epoch{n}.pth", n, {"epoch": float(n)}) for n in (1, 2, 3)]
    found = order([*files, Dated("best.pth", 9, {"epoch": 2.0})])
    assert found.places == (0, 1, 3, 2)
    assert "the older first" in found.by


def test_that_a_file_without_a_step_stands_behind_the_others_and_that_is_said() -> None:
    found = order([Dated("last.pth", 5), Dated("epoch2.pth", 2), Dated("epoch1.pth", 1)])
    assert found.labels == ("1", "2", "last")
    assert "1 file without one behind the others" in found.by


def test_that_without_any_step_the_time_decides_and_else_the_name() -> None:
    by_time = order([Dated("b.pth", 1), Dated("a.pth", 2)])
    assert by_time.places == (0, 1)
    assert "written" in by_time.by
    by_name = order([Dated("b.pth", 1), Dated("a.pth", 1)])
    assert by_name.places == (1, 0)
    assert by_name.by.startswith("name")


def test_that_two_files_of_one_step_in_their_names_are_not_ordered_by_it() -> None:
    """Of two runs, or two parts of the model."""
    found = order([Dated("g_epoch1.pth", 3), Dated("d_epoch1.pth", 4)])
    assert found.unit == ""


def test_that_of_one_name_the_value_nearest_to_the_root_counts() -> None:
    values = [
        ValueInfo(("loops", "fit", "epoch"), "int", 99),
        ValueInfo(("epoch",), "int", 7),
        ValueInfo(("global_step",), "bool", True),
        ValueInfo(("step",), "float", float("nan")),
        ValueInfo(("iter",), "int", 10**400),
    ]
    assert steps_in(values) == {"epoch": 7.0}


@pytest.mark.parametrize(
    ("name", "shard"),
    [
        ("model-00001-of-00003.safetensors", True),
        ("pytorch_model_00001-of-00002.bin", True),
        ("consolidated.00.pth", True),
        ("epoch-1.pth", False),
        ("net_2_of_hearts.pth", False),
    ],
)
def test_that_shards_are_known_by_their_names(name: str, shard: bool) -> None:
    assert is_shard(name) is shard


def test_that_names_sort_as_people_count() -> None:
    assert sorted(["e10", "e2", "E1"], key=natural) == ["E1", "e2", "e10"]


def test_that_an_absurd_step_is_written_short() -> None:
    assert order([Dated("a", 1, {"epoch": 1e200}), Dated("b", 1, {"epoch": 2.5})]).labels == ("2.5", "1.000e+200")
