"""Writing back: the same bytes without edits, the right objects with them."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdviewer.pickles.emit import Edits, constant, emit, is_faithful, without_frames
from sdviewer.pickles.machine import Pickle, parse
from sdviewer.pickles.nodes import (
    FRESH,
    Call,
    Const,
    Global,
    Group,
    Node,
    Persistent,
    Place,
    TensorRecord,
    elements,
    pairs,
)
from sdviewer.pickles.weights_only import would_load
from tests.pickles.samples import load, objects, tensors, torch_pickle


def place_of(pickle_: Pickle, key: object, mapping: Node | None = None) -> Place:
    node = mapping or pickle_.root
    assert node is not None
    return next(place for place, k, _ in pairs(node) if isinstance(k, Const) and k.value == key)


def value_of(pickle_: Pickle, key: object, mapping: Node | None = None) -> Node:
    node = mapping or pickle_.root
    assert node is not None
    return next(value for _, k, value in pairs(node) if isinstance(k, Const) and k.value == key)


def edited(data: bytes, edits: Edits, pickle_: Pickle) -> bytes:
    """Edit, and make sure that the result is itself a pickle that is written back as it is."""
    result = emit(pickle_, edits).data
    assert is_faithful(parse(result))
    return result


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", objects())
def test_that_nothing_edited_is_nothing_changed(name: str, protocol: int) -> None:
    pickle_ = parse(pickle.dumps(objects()[name], protocol))
    assert emit(pickle_).data == without_frames(pickle_)
    assert is_faithful(pickle_)


@pytest.mark.parametrize("protocol", [2, 4])
def test_that_a_state_dict_is_written_back_as_it_is(protocol: int) -> None:
    state: dict[str, Any] = dict(tensors(300))
    state["tied"] = state["layers.7.weight"]
    state["view"] = state["layers.5.weight"][1:3]
    pickle_ = parse(torch_pickle(state, protocol))
    assert len(pickle_.records) > 290
    assert is_faithful(pickle_)


def test_that_an_expanded_record_is_written_as_before() -> None:
    for protocol in (2, 4):
        pickle_ = parse(torch_pickle(tensors(60), protocol))
        for record in pickle_.records[::3]:
            pickle_.expand(record)
        assert is_faithful(pickle_)


simple = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
nested = st.recursive(
    simple,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.tuples(inner)
        | st.tuples(inner, inner)
        | st.tuples(inner, inner, inner, inner)
        | st.frozensets(st.text())
        | st.sets(st.integers())
    ),
    max_leaves=30,
)


@settings(max_examples=150, deadline=None)
@given(thing=nested, protocol=st.integers(0, 5))
def test_that_any_data_is_written_back_as_it_is(thing: Any, protocol: int) -> None:
    pickle_ = parse(pickle.dumps(thing, protocol))
    assert emit(pickle_).data == without_frames(pickle_)
    assert pickle.loads(emit(pickle_).data) == thing


@settings(max_examples=80, deadline=None)
@given(
    thing=st.dictionaries(st.text(), st.lists(st.text()) | st.text(), min_size=1),
    new=st.text(),
    protocol=st.integers(0, 5),
)
def test_that_a_rename_changes_one_key_and_nothing_else(thing: dict[str, Any], new: str, protocol: int) -> None:
    data = pickle.dumps(thing, protocol)
    pickle_ = parse(data)
    old = next(iter(thing))
    found = pickle.loads(edited(data, Edits(keys={place_of(pickle_, old): new}), pickle_))
    expected: dict[str, Any] = {}
    for key, value in thing.items():
        expected[new if key == old else key] = value
    assert found == expected


@pytest.mark.parametrize("protocol", range(6))
def test_that_renaming_a_shared_key_leaves_its_other_uses(protocol: int) -> None:
    name = "weight"
    thing = {"a": {name: 1}, "b": {name: 2}, "list": [name, name]}
    pickle_ = parse(pickle.dumps(thing, protocol))
    first = value_of(pickle_, "a")
    found = pickle.loads(edited(b"", Edits(keys={place_of(pickle_, name, first): "gain"}), pickle_))
    assert found == {"a": {"gain": 1}, "b": {"weight": 2}, "list": ["weight", "weight"]}


def test_that_the_first_tensor_can_go_although_the_others_use_its_names() -> None:
    state: dict[str, Any] = tensors(40)
    data = torch_pickle(state)
    pickle_ = parse(data)
    dropped = frozenset((place_of(pickle_, "layers.0.weight"),))
    result = edited(data, Edits(dropped=dropped), pickle_)
    expected = load(data)
    del expected["layers.0.weight"]
    assert load(result) == expected
    assert would_load(parse(result))


def test_that_a_storage_key_survives_the_tensor_that_brought_it() -> None:
    flat = torch.zeros(40)
    state: dict[str, Any] = {**tensors(3), **{f"p{i}": flat[4 * i : 4 * i + 4] for i in range(6)}, **tensors(5)}
    for protocol in (2, 4):
        data = torch_pickle(state, protocol)
        for gone in ("p0", "p1", "layers.0.weight"):
            pickle_ = parse(data)
            result = edited(data, Edits(dropped=frozenset((place_of(pickle_, gone),))), pickle_)
            expected = load(data)
            del expected[gone]
            assert load(result) == expected


def test_that_renaming_every_key_keeps_every_tensor() -> None:
    for protocol in (2, 4):
        data = torch_pickle(tensors(400), protocol)
        pickle_ = parse(data)
        assert pickle_.root is not None
        keys = {place: f"model.{key.value}" for place, key, _ in pairs(pickle_.root) if isinstance(key, Const)}  # type: ignore[str-bytes-safe]
        result = edited(data, Edits(keys=keys), pickle_)
        assert load(result) == {f"model.{key}": value for key, value in load(data).items()}
        assert would_load(parse(result)) is (protocol == 2)


def test_that_persistent_ids_are_listed_in_the_new_order() -> None:
    data = torch_pickle(tensors(30))
    pickle_ = parse(data)
    swapped = {
        place_of(pickle_, "layers.0.weight"): value_of(pickle_, "layers.20.weight"),
        place_of(pickle_, "layers.20.weight"): value_of(pickle_, "layers.0.weight"),
    }
    result = emit(pickle_, Edits(values=swapped))
    keys = []
    for found in result.persistent:
        if isinstance(found, Persistent):
            assert isinstance(found.id, Group) and isinstance(found.id.items[2], Const)
            keys.append(found.id.items[2].value)
        else:
            keys.append(found.key)
    order = [str(i) for i in range(30)]
    order[0], order[20] = "20", "0"
    assert keys == order
    before = load(data)
    before["layers.0.weight"], before["layers.20.weight"] = before["layers.20.weight"], before["layers.0.weight"]
    assert load(result.data) == before


@pytest.mark.parametrize("protocol", range(6))
def test_that_an_emptied_dict_is_empty_and_a_batch_that_is_left_keeps_its_form(protocol: int) -> None:
    for thing in ({"a": 1}, {"a": 1, "b": 2}):
        pickle_ = parse(pickle.dumps(thing, protocol))
        assert pickle_.root is not None
        everything = frozenset(place for place, _, _ in pairs(pickle_.root))
        result = edited(b"", Edits(dropped=everything), pickle_)
        assert pickle.loads(result) == {}
        assert b"(u" not in result
    pickle_ = parse(pickle.dumps({"a": 1, "b": 2}, protocol))
    assert pickle.loads(edited(b"", Edits(dropped=frozenset((place_of(pickle_, "a"),))), pickle_)) == {"b": 2}


@pytest.mark.parametrize("protocol", range(6))
def test_that_a_splice_puts_the_pairs_of_a_mapping_in_place_of_its_own(protocol: int) -> None:
    thing = {"state_dict": {"a": [1], "b": 2, "c": 3}}
    pickle_ = parse(pickle.dumps(thing, protocol))
    inner = value_of(pickle_, "state_dict")
    edits = Edits(
        splices={place_of(pickle_, "state_dict"): inner},
        keys={place_of(pickle_, "a", inner): "x"},
        dropped=frozenset((place_of(pickle_, "b", inner),)),
    )
    assert pickle.loads(edited(b"", edits, pickle_)) == {"x": [1], "c": 3}
    thing = {"epoch": 3, "state_dict": {"a": 1}, "rest": "r"}
    pickle_ = parse(pickle.dumps(thing, protocol))
    edits = Edits(splices={place_of(pickle_, "state_dict"): value_of(pickle_, "state_dict")})
    assert pickle.loads(edited(b"", edits, pickle_)) == {"epoch": 3, "a": 1, "rest": "r"}


@pytest.mark.parametrize("protocol", range(6))
def test_that_another_node_can_be_the_root(protocol: int) -> None:
    word = "word"
    pickle_ = parse(pickle.dumps([{word: 1}, {word: [word, (1, 2)]}], protocol))
    assert pickle_.root is not None
    inner = [item for _, item in elements(pickle_.root)][1]
    assert pickle.loads(edited(b"", Edits(root=inner), pickle_)) == {"word": ["word", (1, 2)]}


@pytest.mark.parametrize("protocol", range(6))
def test_that_items_of_lists_and_tuples_can_go_and_change(protocol: int) -> None:
    for thing in ([1, 2, 3], (1, 2, 3), (1, 2), (1,), (1, 2, 3, 4)):
        pickle_ = parse(pickle.dumps(thing, protocol))
        assert pickle_.root is not None
        places = [place for place, _ in elements(pickle_.root)]
        rest = pickle.loads(edited(b"", Edits(dropped=frozenset(places[:1])), pickle_))
        assert rest == thing[1:]
        new = pickle.loads(emit(pickle_, Edits(values={places[0]: Const(FRESH, b"", "new")})).data)
        assert new == type(thing)(["new", *thing[1:]])


@pytest.mark.parametrize("protocol", range(6))
def test_that_fresh_nodes_are_written_in_the_style_of_the_pickle(protocol: int) -> None:
    pickle_ = parse(pickle.dumps({"a": 1, "b": 2, "c": [3]}, protocol))
    kept = value_of(pickle_, "c")
    ordered = Global(FRESH, b"", "collections", "OrderedDict")
    numbers: list[Node] = [Const(FRESH, b"", value) for value in (0, -5, 2**40, 1.5, True, None, "é\n\ud800")]
    shared = Group(FRESH, "list", 0x5D, numbers)
    pair = Group(FRESH, "tuple", 0x74, [Const(FRESH, b"", "k"), shared])
    call = Call(FRESH, "reduce", ordered, [Group(FRESH, "tuple", 0x74, [Group(FRESH, "list", 0x5D, [pair])])])
    mapping = Group(FRESH, "dict", 0x7D, [Const(FRESH, b"", "shared"), shared, Const(FRESH, b"", "kept"), kept])
    edits = Edits(values={place_of(pickle_, "a"): call, place_of(pickle_, "b"): mapping})
    result = emit(pickle_, edits).data
    found = pickle.loads(result)
    assert found["a"] == {"k": [0, -5, 2**40, 1.5, True, None, "é\n\ud800"]}
    assert found["b"] == {"shared": found["a"]["k"], "kept": [3]}
    assert found["b"]["shared"] is found["a"]["k"]
    assert found["b"]["kept"] is found["c"]
    if protocol == 2:
        assert not parse(result).beyond_torch


def test_that_a_value_without_a_memo_slot_stays_one_when_it_stands_in_two_places() -> None:
    pickle_ = parse(b"\x80\x02}(X\x01\x00\x00\x00a](K\x01K\x02eX\x01\x00\x00\x00bNu.")
    found = pickle.loads(emit(pickle_, Edits(values={place_of(pickle_, "b"): value_of(pickle_, "a")})).data)
    assert found["a"] is found["b"]


def test_that_a_fresh_call_can_hold_a_tensor_of_the_file() -> None:
    data = torch_pickle(tensors(20))
    pickle_ = parse(data)
    tensor = value_of(pickle_, "layers.11.weight")
    assert isinstance(tensor, TensorRecord)
    args = Group(FRESH, "tuple", 0x87, [tensor, Const(FRESH, b"", True)])
    call = Call(FRESH, "reduce", Global(FRESH, b"", "builtins", "getattr"), [args])
    mapping = Group(FRESH, "dict", 0x7D, [Const(FRESH, b"", "t"), tensor])
    result = emit(pickle_, Edits(values={place_of(pickle_, "layers.3.weight"): mapping}))
    assert load(result.data)["layers.3.weight"] == {"t": load(data)["layers.11.weight"]}
    again = parse(emit(pickle_, Edits(values={place_of(pickle_, "layers.3.weight"): call})).data)
    assert any(isinstance(found.function, Global) and found.function.name == "getattr" for found in again.calls)


def test_that_two_objects_in_one_slot_are_noticed_and_still_written_right() -> None:
    data = b"\x80\x02(]q\x00K\x01ah\x00}q\x00h\x00X\x01\x00\x00\x00aq\x00h\x00t."
    pickle_ = parse(data)
    assert pickle_.reused_slots
    assert not is_faithful(pickle_)
    expected = pickle.loads(data)
    found = pickle.loads(emit(pickle_).data)
    assert found == expected
    assert found[0] is found[1]
    assert found[2] is found[3]


def test_that_records_in_a_pickle_with_reused_slots_are_written_right() -> None:
    # The number at the end is stored in the slot that the first tensor's storage key was in.
    source = torch_pickle(tensors(6))
    data = source[:-2] + b"X\x01\x00\x00\x00zK\x07q\x05u."
    assert parse(source).records
    pickle_ = parse(data)
    assert pickle_.reused_slots
    assert load(emit(pickle_).data) == load(data)


def test_that_duplicates_on_the_stack_stay_one_object() -> None:
    pickle_ = parse(b"\x80\x02](]2K\x01ae.")
    assert not is_faithful(pickle_)
    found = pickle.loads(emit(pickle_).data)
    assert found == pickle.loads(b"\x80\x02](]2K\x01ae.")
    assert found[0] is found[1]


def test_that_an_object_that_holds_itself_by_duplication_ends() -> None:
    found = pickle.loads(emit(parse(b"]2a.")).data)
    assert found[0] is found


def test_that_what_is_popped_first_or_left_behind_is_not_called_faithful() -> None:
    for data in (b"K\x01K\x02.", b"(K\x01K\x02.", b"](K\x010K\x02e.", b"K\x010K\x02."):
        assert not is_faithful(parse(data)), data


def test_that_a_popped_call_is_written_where_it_was() -> None:
    data = b"\x80\x02]q\x00cbuiltins\nlen\nX\x02\x00\x00\x00ls\x85R0K\x01a."
    pickle_ = parse(data)
    assert is_faithful(pickle_)


def test_that_deep_nesting_is_written_back() -> None:
    depth = 100_000
    data = b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."
    assert emit(parse(data)).data == data
    tuples = b"\x80\x02)" + b"\x85" * depth + b"."
    assert emit(parse(tuples)).data == tuples


def test_that_a_broken_pickle_cannot_be_written() -> None:
    from sdviewer.pickles.machine import parse_partial

    with pytest.raises(ValueError, match="broke off"):
        emit(parse_partial(b"\x80\x02}"))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["constants", "integers", "text"])
def test_that_constants_are_written_as_python_reads_them(name: str, protocol: int) -> None:
    for value in objects()[name]:
        found = pickle.loads(constant(value, protocol) + b".")
        assert found == value
        assert type(found) is type(value)


def test_that_bytes_are_constants_from_protocol_3_only() -> None:
    for value in (b"", b"abc", b"x" * 300, bytearray(b"abc")):
        assert pickle.loads(constant(value, 5) + b".") == value
    with pytest.raises(ValueError, match="protocol 3"):
        constant(b"abc", 2)
