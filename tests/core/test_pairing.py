"""Which key of A stands for which of B."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Sequence

from sdviewer.core.pairing import Pairing, Side, pair_up, side_of_file, side_of_state_dict, statuses
from tests.core.builders import checkpoint, tensor


def side(*keys: str, shapes: Sequence[tuple[int, ...]] | None = None, names: dict[int, str] | None = None) -> Side:
    return Side(keys, shapes or [(2, 2)] * len(keys), ["float32"] * len(keys), range(len(keys)), names or {})


def told(a: Side, b: Side, pairing: Pairing) -> list[tuple[str | None, str | None, str]]:
    """The pairs in words."""
    return [(a.keys[i] if i >= 0 else None, b.keys[j] if j >= 0 else None, by) for i, j, by in pairing.pairs]


def test_that_equal_keys_pair_in_the_order_of_a_and_the_rest_follows() -> None:
    a, b = side("x", "y", "z"), side("z", "new", "x")
    assert told(a, b, pair_up(a, b)) == [
        ("x", "x", "key"), ("y", None, ""), ("z", "z", "key"), (None, "new", ""),
    ]  # fmt: skip


def test_that_a_key_that_stands_twice_pairs_in_order() -> None:
    a, b = side("x", "x", "x"), side("x", "x")
    assert [(i, j) for i, j, _ in pair_up(a, b).pairs] == [(0, 0), (1, 1), (2, -1)]


def test_that_the_prefix_is_exchanged_that_pairs_most() -> None:
    a = side("module.enc.0.w", "module.enc.1.w", "module.head.w", "step")
    b = side("net.enc.0.w", "net.enc.1.w", "net.head.w", "step", "enc.0.w")
    found = pair_up(a, b, "prefix")
    assert found.exchanges == (("module.", "net."),)
    assert told(a, b, found) == [
        ("module.enc.0.w", "net.enc.0.w", "prefix"),
        ("module.enc.1.w", "net.enc.1.w", "prefix"),
        ("module.head.w", "net.head.w", "prefix"),
        ("step", "step", "key"),
        (None, "enc.0.w", ""),
    ]


def test_that_a_prefix_can_be_added_and_pairs_of_another_shape_stay_pairs() -> None:
    a = side("w", "b", "head.w", shapes=[(2,), (2,), (2,)])
    b = side("model.w", "model.b", "model.head.w", shapes=[(2,), (2,), (5,)])
    found = pair_up(a, b, "prefix")
    assert found.exchanges == (("", "model."),)
    assert all(by == "prefix" for *_, by in found.pairs)
    assert statuses(a, b, found.pairs) == ["", "", "shape"]


def test_that_no_prefix_is_exchanged_for_what_only_ends_alike() -> None:
    a, b = side("pre.fc.weight", shapes=[(768, 768)]), side("dist.weight", shapes=[(37, 768)])
    assert pair_up(a, b, "prefix").exchanges == ()
    assert len(pair_up(a, b, "auto").pairs) == 2


def test_that_no_prefix_is_exchanged_where_most_shapes_differ() -> None:
    a = side("x.a", "x.b", "x.c", shapes=[(2,), (3,), (4,)])
    assert pair_up(a, side("y.a", "y.b", "y.c", shapes=[(2,), (9,), (9,)]), "prefix").exchanges == ()
    assert pair_up(a, side("y.a", "y.b", "y.c", shapes=[(2,), (3,), (9,)]), "prefix").exchanges == (("x.", "y."),)


def test_that_keys_of_a_million_components_are_not_cut_at_each() -> None:
    a, b = side("m." * 10**6 + "w", "module.w"), side("n." * 10**6 + "w", "w")
    assert pair_up(a, b, "auto").exchanges == (("module.", ""),)


def test_that_one_exchange_is_made_for_prefix_and_several_for_auto() -> None:
    a = side("m.enc.0", "m.enc.1", "m.enc.2", "m.dec.0", "m.dec.1", "m.x.w")
    b = side("encoder.0", "encoder.1", "encoder.2", "decoder.0", "decoder.1", "y.w")
    assert pair_up(a, b, "prefix").exchanges == (("m.enc.", "encoder."),)
    assert pair_up(a, b, "auto").exchanges == (("m.enc.", "encoder."), ("m.dec.", "decoder."))


def test_that_equal_contents_pair_and_ambiguous_ones_by_their_last_component() -> None:
    a = side("p.weight", "q.weight", "n1.bias", "n2.bias", "n1.scale", "odd", "unread")
    b = side("one", "m1.bias", "m2.bias", "m1.gain", "two", "other", "unreadable")
    of_a: list[Hashable] = ["W", "V", 0, 0, 0, 5, None]
    of_b: list[Hashable] = ["V", 0, 0, 0, "W", 6, None]
    asked: list[tuple[list[int], list[int]]] = []

    def contents(some: Sequence[int], others: Sequence[int]) -> tuple[list[Hashable], list[Hashable]]:
        asked.append((list(some), list(others)))
        return [of_a[i] for i in some], [of_b[j] for j in others]

    found = told(a, b, pair_up(a, b, "auto", contents=contents))
    assert found[:4] == [
        ("p.weight", "two", "content"), ("q.weight", "one", "content"),
        ("n1.bias", "m1.bias", "content"), ("n2.bias", "m2.bias", "content"),
    ]  # fmt: skip
    assert found[4:7] == [("n1.scale", None, ""), ("odd", None, ""), ("unread", None, "")]
    assert asked == [(list(range(7)), list(range(7)))]


def test_that_contents_are_asked_only_of_what_could_be_equal() -> None:
    a = side("same", "p", "q", "empty", shapes=[(2,), (3,), (4,), (0,)])
    b = side("same", "r", "s", "void", shapes=[(2,), (3,), (5,), (0,)])
    asked: list[tuple[list[int], list[int]]] = []

    def contents(some: Sequence[int], others: Sequence[int]) -> tuple[list[Hashable], list[Hashable]]:
        asked.append((list(some), list(others)))
        return ["x"] * len(some), ["x"] * len(others)

    assert ("p", "r", "content") in told(a, b, pair_up(a, b, "auto", contents=contents))
    assert asked == [([1], [1])]


def test_that_pairs_by_hand_come_first_and_broken_ones_are_not_made() -> None:
    a, b = side("x", "y", "z"), side("x", "y", "z")
    found = pair_up(a, b, hand=[(0, 1)], broken=[(2, 2)])
    assert told(a, b, found) == [
        ("x", "y", "hand"), ("y", None, ""), ("z", None, ""), (None, "x", ""), (None, "z", ""),
    ]  # fmt: skip


def test_that_names_of_parameters_count_when_both_sides_have_them() -> None:
    a = side("state.0.exp_avg", "state.1.exp_avg", names={0: "state.w.exp_avg", 1: "state.b.exp_avg"})
    b = side("state.0.exp_avg", "state.1.exp_avg", names={0: "state.b.exp_avg", 1: "state.w.exp_avg"})
    assert [(i, j) for i, j, _ in pair_up(a, b).pairs] == [(0, 1), (1, 0)]
    assert [(i, j) for i, j, _ in pair_up(a, b, by_parameter=False).pairs] == [(0, 0), (1, 1)]
    assert [(i, j) for i, j, _ in pair_up(a, side(*b.keys)).pairs] == [(0, 0), (1, 1)]


def test_that_headers_tell_what_they_can() -> None:
    a = Side(("s", "t", "u", "v"), [(2,), (2,), (2,), (2,)], ["float32", "float32", "float32", "int8"], range(4))
    b = Side(("s", "t", "u", "w"), [(2,), (3,), (2,), (2,)], ["float32", "float16", "float16", "int8"], range(4))
    assert statuses(a, b, pair_up(a, b).pairs) == ["", "shape", "dtype", "only_a", "only_b"]


def test_that_a_state_dict_is_taken_with_the_keys_of_a_plan_and_without_what_is_no_tensor() -> None:
    made = checkpoint({"a": (2,), "b": (3,)}, path=("model",), other_keys=("note",))
    assert side_of_state_dict(made, 0).keys == ("a", "b")
    planned = side_of_state_dict(made, 0, [None, "net.b", "note"])
    assert (planned.keys, list(planned.tensors), planned.shapes) == (("net.b",), [1], [(3,)])
    assert side_of_file(made).keys == ("model.a", "model.b")


def test_that_the_parts_of_a_sparse_tensor_are_not_paired_beside_it() -> None:
    made = checkpoint({"a": (2,), "s": (9, 9), "z": (1,)})
    whole = made.tensors[1]._replace(kind="sparse")
    parts = [tensor(("s", name), None, (2,)) for name in ("indices", "values")]
    made = type(made)(
        made.path, made.container, 0, "little", made.identity, tensors=(made.tensors[0], whole, *parts, made.tensors[2])
    )
    assert side_of_file(made).keys == ("a", "s", "z")


def test_that_auto_asks_the_matcher_for_what_is_left_and_no_other_way_does() -> None:
    a, b = side("x.w", "y.v", "z.u"), side("x.w", "p.q", "r.s")
    asked: list[list[tuple[int, int]]] = []

    def matcher(
        one: Side, other: Side, made: Collection[tuple[int, int]], refused: Collection[tuple[int, int]]
    ) -> Iterator[tuple[int, int]]:
        asked.append(list(made))
        yield from [(1, 2), (0, 1), (2, 1)]

    assert told(a, b, pair_up(a, b, "auto", broken=[(2, 1)], matcher=matcher)) == [
        ("x.w", "x.w", "key"), ("y.v", "r.s", "name"), ("z.u", None, ""), (None, "p.q", ""),
    ]  # fmt: skip
    assert asked == [[(0, 0)]]
    assert len(pair_up(a, b, "prefix", matcher=matcher).pairs) == 5
    assert len(asked) == 1
