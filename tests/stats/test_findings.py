"""What is worth a look, and what is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sdviewer.core.checkpoint import Checkpoint, StateDict, StorageInfo
from sdviewer.core.depth import find_series
from sdviewer.stats.findings import Finding, Subjects, find, jumps, look_equal, ranges
from sdviewer.stats.table import KNOWN, UNREADABLE, StatisticsTable
from tests.core.builders import checkpoint, tensor

Shapes = Mapping[str, Sequence[int]]


def subjects_of(made: Checkpoint) -> Subjects:
    keys = ((at, info.key or "", info.shape, info.elements) for at, info in enumerate(made.tensors))
    return Subjects(made, find_series(keys))


def healthy(made: Checkpoint) -> StatisticsTable:
    """A table in which every tensor is known, none like another, and nothing is odd."""
    table = StatisticsTable(len(made.tensors))
    for at, info in enumerate(made.tensors):
        low = 0.5 + at if info.path[-1] == "bn.running_var" else -1.0 - at
        row: dict[str, Any] = {"state": KNOWN, "count": info.elements, "nan": 0, "posinf": 0, "neginf": 0, "zeros": 0}
        row |= {"min": low, "max": 1.0 + at, "mean": 0.01 * at, "std": 0.5, "absmean": 0.4, "l2": 3.0 + at}
        row |= {"constant": 0, "zero_rows": 0}
        for name, value in row.items():
            table[name][at] = value
    return table


def found(made: Checkpoint, table: StatisticsTable, **more: Any) -> list[Finding]:
    return find(subjects_of(made), table, **more)


MODEL: Shapes = {
    **{f"blocks.{i}.norm.{last}": (8,) for i in range(4) for last in ("weight", "bias")},
    **{f"blocks.{i}.fc.weight": (8, 8) for i in range(4)},
    "bn.running_var": (8,),
}


def place(made: Checkpoint, key: str) -> int:
    return next(at for at, info in enumerate(made.tensors) if info.key == key)


def test_that_a_healthy_model_has_nothing_to_show() -> None:
    made = checkpoint(MODEL)
    assert found(made, healthy(made)) == []
    assert find(subjects_of(made), None) == []


def test_that_nan_is_told_with_place_and_numbers_and_comes_first() -> None:
    made = checkpoint(MODEL)
    table = healthy(made)
    at = place(made, "blocks.2.fc.weight")
    table["nan"][at] = 3
    table["zeros"][place(made, "blocks.0.norm.bias")] = 8
    first, second = found(made, table)
    assert (first.severity, first.title) == ("error", "1 tensor holds NaN")
    assert first.detail == "blocks.2.fc.weight · 3 of 64 values"
    assert first.tensors == (at,)
    assert second.severity == "info"


def test_that_what_is_usual_is_one_mild_line_with_its_blocks() -> None:
    made = checkpoint(MODEL)
    table = healthy(made)
    for i in (0, 1, 2):
        table["zeros"][place(made, f"blocks.{i}.norm.bias")] = 8
    (only,) = found(made, table)
    assert (only.severity, only.title) == ("info", "3 norm biases are exactly zero")
    assert only.detail == "blocks 0–2, norm.bias"


def test_that_a_weight_of_zeros_and_dead_rows_are_warnings() -> None:
    made = checkpoint(MODEL)
    table = healthy(made)
    dead, partly = place(made, "blocks.1.fc.weight"), place(made, "blocks.3.fc.weight")
    table["zeros"][dead], table["zero_rows"][dead], table["constant"][dead] = 64, 8, 1
    table["zeros"][partly], table["zero_rows"][partly] = 16, 2
    told = {one.kind: one for one in found(made, table)}
    assert told["zero"].tensors == (dead,)
    assert told["zero"].severity == "warning"
    assert told["dead_rows"].tensors == (partly,)
    assert told["dead_rows"].title == "2 rows are all zero"


def test_that_a_padding_row_of_an_embedding_is_not_told() -> None:
    made = checkpoint({"embed.weight": (9, 4)})
    table = healthy(made)
    table["zero_rows"][0], table["zeros"][0] = 1, 4
    assert found(made, table) == []


def test_that_a_negative_variance_and_an_unreadable_tensor_are_errors() -> None:
    made = checkpoint(MODEL)
    table = healthy(made)
    table["state"][0] = UNREADABLE
    table["min"][place(made, "bn.running_var")] = -0.1
    kinds = {one.kind: one.severity for one in found(made, table)}
    assert kinds == {"unreadable": "error", "negative_variance": "error"}


def test_that_state_of_an_optimizer_is_told_by_itself() -> None:
    made = checkpoint({"exp_avg": (4, 4), "step": ()}, role="optimizer")
    table = healthy(made)
    table["nan"][0] = 1
    table["zeros"][1] = 1
    (only,) = found(made, table)
    assert only.title == "Optimizer state is not finite in 1 tensor"


def test_that_a_jump_is_told_with_the_numbers_of_its_neighbours() -> None:
    made = checkpoint({f"blocks.{i}.mlp.fc2.weight": (8, 8) for i in range(12)})
    table = healthy(made)
    table["std"][:] = 0.04 + 0.001 * np.arange(12)
    table["std"][10] = 0.09
    (only,) = found(made, table)
    assert only.title == "std jumps at block 10"
    assert only.detail == "mlp.fc2 · 0.09, neighbours 0.04999"
    assert only.tensors == (10,)


def test_that_a_trend_and_the_ends_of_a_model_are_no_jumps() -> None:
    assert jumps(np.exp(np.linspace(-3, 0, 12))) == []
    values = np.full(12, 0.04)
    values[0] = values[-1] = 0.4
    assert jumps(values) == []
    values[5] = 0.4
    assert [at for at, _, _ in jumps(values)] == [5]


def test_that_what_varies_widely_has_no_jumps() -> None:
    assert jumps(np.array([1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0])) == []
    assert jumps(np.array([np.nan, 0.0, 1.0, np.nan, 1.0, 1.0, 1.0])) == []


def test_that_equal_tensors_are_sure_only_when_their_bits_were_compared() -> None:
    made = checkpoint({f"{name}.weight": (8, 8) for name in "abcd"})
    table = healthy(made)
    for name in ("min", "max", "mean", "l2"):
        table[name][2] = table[name][0]
    assert [list(group) for group in look_equal(subjects_of(made), table)] == [[0, 2]]
    (likely,) = found(made, table)
    assert likely.title == "2 tensors are of equal statistics"
    (sure,) = found(made, table, digests={0: "aa", 2: "aa"})
    assert sure.title == "2 tensors are equal bit for bit"
    assert sure.detail == "a.weight and c.weight"
    assert found(made, table, digests={0: "aa", 2: "bb"}) == []


def test_that_tensors_of_one_storage_are_shared_and_no_duplicates() -> None:
    one, two = tensor(("a",), "a", (4, 4), storage="0"), tensor(("b",), "b", (4, 4), storage="0")
    made = Checkpoint(
        **{name: getattr(checkpoint({}), name) for name in ("path", "container", "size", "byte_order", "identity")},
        state_dicts=(StateDict((), "model", ("a", "b"), (0, 1), 32, 64),),
        tensors=(one, two),
        storages={"0": StorageInfo("0", 64, 64, 2)},
    )
    table = healthy(made)
    for name in ("min", "max", "mean", "l2"):
        table[name][1] = table[name][0]
    (only,) = found(made, table)
    assert (only.kind, only.title, only.detail) == ("shared", "2 tensors share one storage", "a and b")


def test_that_bytes_of_no_tensor_and_mixed_dtypes_are_told_from_the_header() -> None:
    made = checkpoint({"a.weight": (512, 512), "b.weight": (512, 512), "c.weight": (4, 4)})
    storages = dict(made.storages)
    storages["a.weight"] = StorageInfo("a.weight", 9 << 20, 1 << 20, 1)
    small = made.tensors[2]._replace(dtype="bfloat16")
    made = replace(made, storages=storages, tensors=(*made.tensors[:2], small), size=10 << 20)
    unused, mixed = find(subjects_of(made), None)
    assert unused.title == "8 MiB of the file belong to no tensor"
    assert (unused.severity, unused.tensors) == ("warning", (0,))
    assert mixed.title == "1 tensor is not float32"
    assert mixed.detail == "bfloat16 · c.weight"


def test_that_sizes_a_file_cannot_have_and_a_few_idle_bytes_are_not_told() -> None:
    made = checkpoint({"a.weight": (4, 4)})
    for nbytes in (1 << 62, 64 + 900):
        storages = {"a.weight": StorageInfo("a.weight", nbytes, 64, 1)}
        assert find(subjects_of(replace(made, storages=storages, size=2000)), None) == []


def test_that_tensors_of_the_meta_device_are_not_called_damaged() -> None:
    made = checkpoint({"a.weight": (4, 4), "b.weight": (4, 4)})
    meta = made.tensors[0]._replace(kind="meta", unreadable="it is on the meta device")
    lost = made.tensors[1]._replace(unreadable="its record is gone")
    told = find(subjects_of(replace(made, tensors=(meta, lost))), None)
    assert [(one.severity, one.kind, one.tensors) for one in told] == [
        ("error", "unreadable", (1,)),
        ("info", "meta", (0,)),
    ]


def test_that_names_of_a_file_are_made_printable() -> None:
    made = checkpoint({"a\x1b[2J.weight": (4, 4)})
    table = healthy(made)
    table["nan"][0] = 1
    (only,) = found(made, table)
    assert "\x1b" not in only.detail


def test_that_numbers_are_put_together() -> None:
    assert ranges([0, 1, 2, 3, 7]) == "0–3, 7"
    assert ranges(range(0, 20, 2)) == "0, 2, 4, 6 …"


def test_that_the_values_of_tensors_that_repeat_theirs_add_up_beyond_64_bits() -> None:
    made = checkpoint(MODEL)
    table = healthy(made)
    for i in range(4):
        at = place(made, f"blocks.{i}.fc.weight")
        table["nan"][at], table["count"][at] = 2**61, 2**62
    first = found(made, table)[0]
    assert first.detail.endswith(f"{2**63:,} of {2**64:,} values")


def test_that_norms_are_told_by_the_last_part_of_their_module_however_long_its_path() -> None:
    keys = ["ln.bias", "a.ln_1.bias", "a.post_ln.bias", "layernorm.out.bias", "a.bn2.bias", "a.plain.bias"]
    keys.append("bn" * 200_000 + ".x.bias")  # minutes, where each "bn" is tried
    made = checkpoint(dict.fromkeys(keys, (4,)))
    assert subjects_of(made).in_norm.tolist() == [True, True, True, True, True, False, False]
