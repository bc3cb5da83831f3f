from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sdviewer.errors import KeyCollision, NoMatch, RepairError, UsageError
from sdviewer.repair.operations import (
    Add,
    Flatten,
    Fuse,
    Permute,
    Reshape,
    Rows,
    Split,
    Squeeze,
    Stack,
    Transpose,
    Unsqueeze,
    Unstack,
)
from sdviewer.repair.operations.tensor_operation import Entry, TensorOperation
from sdviewer.repair.plan import Kept
from sdviewer.repair.planning import key_map, make_plan, preview_operation
from sdviewer.repair.recipe import FORMAT, Recipe, parse_recipe
from tests.repair.arrays import applied, refused, same
from tests.repair.made import model

DTYPES = (torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.float8_e4m3fn, torch.complex64)
DIMS = st.integers(-4, 3)
Reference = Callable[[torch.Tensor], Any]


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9)))
    numbers = torch.randint(-9, 9, shape, generator=generator)
    return numbers.to(draw(st.sampled_from(DTYPES)))


def _matrix(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.ndim != 2:
        raise RuntimeError("no matrix")
    return tensor.t()


def _exchange(tensor: torch.Tensor, a: int, b: int) -> torch.Tensor:
    result = tensor.transpose(a, b)
    if not tensor.ndim or a % tensor.ndim == b % tensor.ndim:
        raise RuntimeError("one dimension")
    return result


def _squeeze(tensor: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    for dim in dims:
        if tensor.size(dim) != 1:
            raise RuntimeError("not of size 1")
    return tensor.squeeze(tuple({dim % tensor.ndim for dim in dims}))


def _rows(tensor: torch.Tensor, dim: int, places: Any) -> torch.Tensor:
    """The rows at places, which are a list, or a function of how many there are."""
    size = tensor.size(dim)
    places = places(size) if callable(places) else places
    if any(not -size <= place < size for place in places):
        raise RuntimeError("no such row")
    return tensor.index_select(dim, torch.tensor([place % size for place in places], dtype=torch.int64))


def _sliced(start: int, stop: int | None) -> Callable[[int], list[int]]:
    def places(size: int) -> list[int]:
        first = start + size if start < 0 else start
        end = size if stop is None else stop + size if stop < 0 else stop
        return [*range(first, end)] if 0 <= first <= end <= size else [size]

    return places


def _padded(tensor: torch.Tensor, dim: int, count: int, at: int | None) -> torch.Tensor:
    size = tensor.size(dim)
    at = size if at is None else at + size if at < 0 else at
    if not 0 <= at <= size:
        raise RuntimeError("no such place")
    shape = list(tensor.shape)
    shape[dim] = count
    before, after = tensor.split([at, size - at], dim)
    return torch.cat([before, torch.zeros(shape, dtype=tensor.dtype), after], dim)


@st.composite
def cases(draw: st.DrawFn) -> tuple[TensorOperation, Reference]:
    """An operation on one tensor, and torch's own."""
    a, b, dim = draw(DIMS), draw(DIMS), draw(DIMS)
    order = tuple(draw(st.permutations(range(draw(st.integers(1, 4))))))
    shape = tuple(draw(st.lists(st.sampled_from([0, 1, 2, 3, 4, 6, 8]), max_size=3)))
    if draw(st.booleans()):
        shape = (*shape, -1)
    places = tuple(draw(st.lists(st.integers(-4, 3), max_size=4)))
    start, stop = draw(st.integers(-3, 3)), draw(st.none() | st.integers(-3, 4))
    count, at = draw(st.integers(1, 3)), draw(st.none() | st.integers(-3, 4))
    dims = tuple(draw(st.lists(DIMS, min_size=1, max_size=2)))
    between = (start,) if stop is None else (start, stop)
    return draw(
        st.sampled_from([
            (Transpose(), _matrix),
            (Transpose(dims=(a, b)), lambda t: _exchange(t, a, b)) if a != b else (Transpose(), _matrix),
            (Permute(order=order), lambda t: t.permute(order)),
            (Reshape(shape=shape), lambda t: t.reshape(shape)),
            (Flatten(start=a, end=b), lambda t: t.flatten(a, b)),
            (Squeeze(), lambda t: t.squeeze()),
            (Squeeze(dims=dims), lambda t: _squeeze(t, dims)),
            (Unsqueeze(dim=dim), lambda t: t.unsqueeze(dim)),
            (Rows(dim=dim, between=between), lambda t: _rows(t, dim, _sliced(start, stop))),
            (Rows(dim=dim, take=places), lambda t: _rows(t, dim, places)),
            (Rows(dim=dim, reverse=True), lambda t: _rows(t, dim, lambda size: [*range(size)][::-1])),
            (Rows(dim=dim, pad=count, at=at), lambda t: _padded(t, dim, count, at)),
        ])
    )  # fmt: skip


@settings(deadline=None)
@example(case=(Transpose(dims=(0, -1)), lambda tensor: _exchange(tensor, 0, -1)), tensor=torch.tensor(-1.0))
@given(cases(), tensors())
def test_that_one_tensor_becomes_what_torch_makes_of_it_or_is_refused_with_torch(
    case: tuple[TensorOperation, Reference], tensor: torch.Tensor
) -> None:
    operation, reference = case
    try:
        wanted = reference(tensor)
    except (RuntimeError, IndexError):
        assert refused(operation, {"x": tensor}).key == "x"
        return
    assert same(applied(operation, {"x": tensor})["x"], wanted)


@settings(deadline=None)
@given(tensors(), st.lists(st.integers(0, 3), min_size=2, max_size=4), DIMS, st.integers(1, 3))
def test_that_a_split_gives_the_parts_that_torch_gives_and_fuse_puts_them_together_again(
    tensor: torch.Tensor, pieces: list[int], dim: int, groups: int
) -> None:
    sizes = tuple([piece * groups for piece in pieces])
    into = tuple([f"y.{{i}}.{number}" for number in range(len(sizes))])
    split = Split(source="x.{i}.w", into=into, dim=dim, sizes=sizes, groups=groups)
    fits = -tensor.ndim <= dim < tensor.ndim and tensor.size(dim) == sum(sizes)
    if not fits:
        assert refused(split, {"x.7.w": tensor}).key == "x.7.w"
        return
    found = applied(split, {"x.7.w": tensor})
    grouped = tensor.unflatten(dim, (groups, sum(pieces)))
    axis = dim % tensor.ndim
    for number, part in enumerate(grouped.split(pieces, axis + 1)):
        assert same(found[f"y.7.{number}"], part.flatten(axis, axis + 1))
    fused = applied(Fuse(sources=into, into="x.{i}.w", dim=dim, groups=groups), found)
    assert same(fused["x.7.w"], tensor) and list(fused) == ["x.7.w"]


@settings(deadline=None)
@given(tensors(), DIMS)
def test_that_unstacking_is_unbind_and_stacking_takes_it_back(tensor: torch.Tensor, dim: int) -> None:
    unstack = Unstack(source="x.{p}", into="x.{e}.{p}", dim=dim)
    if not -tensor.ndim <= dim < tensor.ndim:
        assert refused(unstack, {"x.w": tensor}).key == "x.w"
        return
    found = applied(unstack, {"x.w": tensor, "y": tensor})
    for number, part in enumerate(tensor.unbind(dim)):
        assert same(found[f"x.{number}.w"], part)
    if tensor.size(dim):
        again = applied(Stack(source="x.{e}.{p}", over="e", into="x.{p}", dim=dim), dict(reversed(found.items())))
        assert same(again["x.w"], tensor) and set(again) == {"x.w", "y"}


def test_that_a_split_without_sizes_gives_equal_parts_for_every_key_of_the_template() -> None:
    state_dict = {f"h.{i}.qkv.{p}": torch.arange(6.0) + i for i in range(2) for p in ("weight", "bias")}
    found = applied(Split(source="h.{i}.qkv.{p}", into=("h.{i}.q.{p}", "", "h.{i}.v.{p}")), state_dict)
    assert list(found)[:2] == ["h.0.q.weight", "h.0.v.weight"] and len(found) == 8
    assert found["h.1.v.bias"].tolist() == [5.0, 6.0]


def test_that_the_rows_of_a_fused_qkv_are_taken_head_by_head() -> None:
    """As GPT-NeoX stores them: for each head its q, k and v."""
    heads, size, width = 4, 3, 5
    parts = [torch.randn(heads, size, width) for _ in "qkv"]
    fused = torch.stack(parts, 1).reshape(heads * 3 * size, width)
    found = applied(Split(source="qkv", into=("q", "k", "v"), groups=heads), {"qkv": fused})
    for name, part in zip("qkv", parts, strict=True):
        assert same(found[name], part.reshape(heads * size, width))
    found = applied(Fuse(sources=("q", "k", "v"), into="qkv", groups=heads), found)
    assert same(found["qkv"], fused)


def test_that_an_empty_template_fuses_zeros() -> None:
    state_dict = {"a.q_bias": torch.ones(2), "a.v_bias": torch.full((2,), 3.0)}
    found = applied(Fuse(sources=("{m}.q_bias", "", "{m}.v_bias"), into="{m}.qkv.bias"), state_dict)
    assert found["a.qkv.bias"].tolist() == [1, 1, 0, 0, 3, 3]


def test_that_a_part_that_is_missing_is_named() -> None:
    state_dict = {"h.0.q": torch.ones(2), "h.0.k": torch.ones(2), "h.1.q": torch.ones(2)}
    refusal = refused(Fuse(sources=("h.{i}.q", "h.{i}.k"), into="h.{i}.qk"), state_dict)
    assert isinstance(refusal, NoMatch) and '"h.1.k"' in refusal.message and refusal.key == "h.1.q"
    experts = {f"e.{number}.w": torch.ones(2) for number in (0, 1, 3)}
    refusal = refused(Stack(source="e.{e}.w", over="e", into="e.w"), experts)
    assert isinstance(refusal, NoMatch) and '"e.2.w"' in refusal.message


def test_that_stacking_goes_by_number_and_not_by_text_or_place() -> None:
    state_dict = {f"e.{number}.w": torch.tensor([number]) for number in (10, 9, 2, 0, 1, 3, 4, 5, 6, 7, 8)}
    found = applied(Stack(source="e.{e}.w", over="e", into="e.w"), state_dict)
    assert found["e.w"].flatten().tolist() == list(range(11))


@pytest.mark.parametrize(
    ("operation", "state_dict", "said"),
    [
        (Fuse(sources=("q", "k"), into="qk"), {"q": torch.ones(2, 3), "k": torch.ones(2, 4)}, '"k" (2×4)'),
        (Fuse(sources=("q", "k"), into="qk"), {"q": torch.ones(2), "k": torch.ones(2).half()}, "float16"),
        (Fuse(sources=("q", "k"), into="qk", groups=2), {"q": torch.ones(3), "k": torch.ones(3)}, "2 equal groups"),
        (Fuse(sources=("q.{i}", "k.{i}"), into="qk"), {"q.0": torch.ones(1), "q.1": torch.ones(1)}, "part 0"),
        (Stack(source="e.{e}", over="e", into="w"), {"e.0": torch.ones(2), "e.1": torch.ones(3)}, '"e.1" (3)'),
        (Stack(source="e.{e}", over="e", into="w"), {"e.x": torch.ones(2)}, "no number"),
        (Stack(source="e.{e}", over="e", into="w"), {"e.0": torch.ones(2), "e.00": torch.ones(2)}, "part 0"),
        (Split(source="x", into=("a", "b")), {"x": torch.ones(5, 2)}, '"x" (5×2): dimension 0 is of size 5'),
        (Split(source="x", into=("a", "b"), sizes=(1, 3)), {"x": torch.ones(5)}, "4 together"),
        (Split(source="x", into=("a", "b"), groups=2), {"x": torch.ones(6)}, "each in 2 groups"),
        (Transpose(), {"bias": torch.ones(5)}, '"bias" (5): it is no matrix'),
        (Reshape(shape=(2, -1)), {"x": torch.ones(5)}, "do not go into 2×-1"),
    ],
)  # fmt: skip
def test_that_what_cannot_be_is_refused_with_keys_shapes_and_a_remedy(
    operation: TensorOperation, state_dict: dict[str, torch.Tensor], said: str
) -> None:
    refusal = refused(operation, state_dict)
    assert said in refusal.message and refusal.remedy and refusal.key in state_dict


@pytest.mark.parametrize(
    "make",
    [
        lambda: Split(source="a", into=("b",)),
        lambda: Split(source="a", into=("b", "b")),
        lambda: Split(source="a.{i}", into=("b.{i}", "c.{j}")),
        lambda: Split(source="a", into=("b", "c"), sizes=(1,)),
        lambda: Fuse(sources=("a.{i}", "b"), into="c.{i}"),
        lambda: Fuse(sources=("re:a", "b"), into="c"),
        lambda: Stack(source="a.{e}", over="i", into="b"),
        lambda: Stack(source="a.{e}", over="e", into="b.{e}"),
        lambda: Unstack(source="a.{e}", into="b.{e}"),
        lambda: Permute(order=(0, 2)),
        lambda: Transpose(dims=(1, 1)),
        lambda: Reshape(shape=(-1, -1)),
        lambda: Reshape(shape=(1,) * 65),
        lambda: Add(key="n", shape=(1,) * 65),
        lambda: Rows(take=(1,), reverse=True),
        lambda: Rows(),
        lambda: Rows(take=(1,), fill="mean"),
        lambda: Rows(pad=1, fill="copy:x"),
    ],
)
def test_that_fields_that_say_nothing_that_can_be_done_are_refused(make: Callable[[], TensorOperation]) -> None:
    with pytest.raises(UsageError):
        make()


def test_that_more_dimensions_than_arrays_have_are_refused() -> None:
    wide = torch.zeros([1] * 64)
    assert "64 dimensions" in refused(Unsqueeze(dim=0), {"w": wide}).message
    assert "64 dimensions" in refused(Stack(source="w.{i}", over="i", into="w"), {"w.0": wide}).message


def test_that_a_tensor_larger_than_a_file_can_be_is_refused() -> None:
    add = Add(key="n", shape=(2**62,), dtype="float64")
    with pytest.raises(RepairError, match="larger than a file"):
        make_plan(Recipe(steps=(add,)), model("w"))


def test_that_a_tensor_whose_elements_cannot_be_moved_stops_the_step() -> None:
    opaque = Entry("q", Kept(0), (2, 2), "float32", "it is a sparse tensor")
    packed = Entry("p", Kept(0), (2, 2), "float4_e2m1fn_x2")
    for entry in (opaque, packed, Entry("v", Kept(0), None)):
        for operation in (Split(source=entry.key, into=("a", "b")), Unstack(source=entry.key, into="{e}")):
            refusal = operation.plan_entries([entry]).refusal
            assert refusal is not None and refusal.key == entry.key
    assert Transpose().plan_entries([Entry("v", Kept(0), None)]).refusal is None


def _map(steps: str, *keys: str) -> dict[str, Any]:
    checkpoint = model(*keys)
    return dict(key_map(make_plan(parse_recipe(f'format = "{FORMAT}"\n{steps}'), checkpoint), checkpoint))


SPLIT = '[[step]]\nop = "split"\nfrom = "{m}.qkv"\ninto = ["{m}.q", "{m}.k"]\nsizes = [1, 1]\n'
FUSE = '[[step]]\nop = "fuse"\nfrom = ["e.{e}.gate", "e.{e}.up"]\ninto = "e.{e}.gate_up"\n'
STACK = '[[step]]\nop = "stack"\nfrom = "e.{e}.%s"\nover = "e"\ninto = "e.%s"\n'


def test_that_the_map_says_what_became_of_each_key_in_the_words_of_the_contract() -> None:
    assert _map(SPLIT, "h.qkv") == {"h.qkv": {"op": "split", "to": ["h.q", "h.k"], "dim": 0, "sizes": [1, 1]}}
    cast = '[[step]]\nop = "cast"\ndtype = "float16"\n'
    assert _map(cast + SPLIT + cast, "h.qkv")["h.qkv"]["sizes"] == [1, 1]
    fused = _map(FUSE, "e.0.gate", "e.0.up")
    assert fused["e.0.up"] == {"op": "concat", "to": "e.0.gate_up", "dim": 0, "index": 1, "of": 2}
    experts = [f"e.{number}.{part}" for number in range(2) for part in ("gate", "up")]
    stacked = _map(STACK % ("up", "up"), *experts)
    assert stacked["e.1.up"] == {"op": "stack", "to": "e.up", "dim": 0, "index": 1}
    assert stacked["e.1.gate"] == "e.1.gate"
    transpose = '[[step]]\nop = "transpose"\n'
    assert _map(transpose, "w") == {"w": {"op": "transpose", "to": "w"}}
    squeeze = '[[step]]\nop = "unsqueeze"\ndim = 0\n[[step]]\nop = "squeeze"\ndims = [0]\n'
    assert _map(squeeze, "w") == {"w": {"op": "squeeze", "to": "w", "dims": [0]}}
    tie = '[[step]]\nop = "tie"\nfrom = "w"\nto = ["head"]\n'
    assert _map(tie, "w") == {"w": {"op": "tie", "to": ["w", "head"]}}


def test_that_the_map_tells_experts_that_are_joined_and_stacked_alike_whatever_came_first() -> None:
    experts = [f"e.{number}.{part}" for number in range(2) for part in ("gate", "up")]
    wanted = {"op": "stack_concat", "to": "e.gate_up", "index": 1, "part": 0, "concat_dim": 0, "stack_dim": 0}
    joined_first = _map(FUSE + STACK % ("gate_up", "gate_up"), *experts)
    fuse_stacks = '[[step]]\nop = "fuse"\nfrom = ["e.gate", "e.up"]\ninto = "e.gate_up"\ndim = 1\n'
    stacked_first = _map(STACK % ("gate", "gate") + STACK % ("up", "up") + fuse_stacks, *experts)
    assert joined_first["e.1.gate"] == stacked_first["e.1.gate"] == wanted
    assert joined_first == stacked_first


def test_that_two_parts_under_one_key_are_a_collision() -> None:
    with pytest.raises(KeyCollision):
        _map('[[step]]\nop = "split"\nfrom = "a"\ninto = ["b", "c"]\n', "a", "b")


def test_that_a_template_that_matches_nothing_is_a_dead_rule() -> None:
    steps = SPLIT + FUSE + STACK % ("x", "x") + '[[step]]\nop = "unstack"\nfrom = "u"\ninto = "u.{e}"\n'
    plan = make_plan(parse_recipe(f'format = "{FORMAT}"\n{steps}'), model("w"))
    assert [bool(step.dead_rules) for step in plan.steps] == [True] * 4
    assert [warning.code for warning in plan.warnings] == ["dead_rule"] * 4


def test_that_new_shapes_are_said_to_leave_the_optimizer_behind() -> None:
    from tests.repair.made import checkpoint

    both = checkpoint((("model",), "model", ["w"]), (("opt",), "optimizer", ["state.0.exp_avg"]))
    recipe = parse_recipe(f'format = "{FORMAT}"\n[[step]]\nop = "transpose"\n')
    assert [warning.code for warning in make_plan(recipe, both).warnings] == ["optimizer_index"]


def test_that_a_preview_shows_the_parts_of_a_fused_tensor_as_going_into_it() -> None:
    shown = preview_operation(Recipe(), Fuse(sources=("q", "k"), into="qk"), model("q", "k", "x"))
    assert [(row.old, row.new) for row in shown.rows] == [("q", "qk"), ("k", "qk")]
    assert (shown.changed, shown.dropped, shown.problems) == (2, 0, ())
    assert shown.rows[0].shape == "2×3 float32 \N{RIGHTWARDS ARROW} 4×3 float32"


def test_that_a_refusal_in_a_recipe_names_the_step() -> None:
    with pytest.raises(RepairError, match=r"step 1 \(Split .*\): cannot split \"a\" \(2×3\)"):
        _map('[[step]]\nop = "split"\nfrom = "a"\ninto = ["b", "c"]\nsizes = [1, 2]\n', "a")
