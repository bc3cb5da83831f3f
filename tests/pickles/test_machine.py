"""Reading: every opcode, every way to be wrong, and nothing that a file can do to the reader."""

from __future__ import annotations

import gc
import pickle
import random
import struct
import tracemalloc

import pytest

from sdviewer.errors import Cancelled, CorruptCheckpoint
from sdviewer.pickles.emit import Edits, emit
from sdviewer.pickles.machine import parse, parse_partial
from sdviewer.pickles.nodes import Call, Const, Global, Group, Other, Persistent, TensorRecord, elements, pairs, states
from tests.pickles.samples import objects, tensors, torch_pickle


def root_of(data: bytes) -> Group:
    root = parse(data).root
    assert isinstance(root, Group)
    return root


def values(group: Group) -> list[object]:
    return [node.value for _, node in elements(group) if isinstance(node, Const)]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["constants", "integers", "text"])
def test_that_constants_are_decoded_as_python_does(name: str, protocol: int) -> None:
    things = objects()[name]
    found = values(root_of(pickle.dumps(things, protocol)))
    assert found == things
    assert [type(value) for value in found] == [type(thing) for thing in things]


def test_that_bytes_and_bytearrays_keep_their_type() -> None:
    found = values(root_of(pickle.dumps([b"a", b"x" * 300, bytearray(b"abc")], 5)))
    assert found == [b"a", b"x" * 300, bytearray(b"abc")]
    assert type(found[2]) is bytearray


def test_that_duplicate_and_equal_keys_stay_apart() -> None:
    root = root_of(
        b"\x80\x02}(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00aK\x02K\x01K\x03\x88K\x04G?\xf0\0\0\0\0\0\0K\x05u."
    )
    found = [
        (key.value, value.value) for _, key, value in pairs(root) if isinstance(key, Const) and isinstance(value, Const)
    ]
    assert found == [("a", 1), ("a", 2), (1, 3), (True, 4), (1.0, 5)]


def test_that_python_2_strings_are_text_where_they_can_be() -> None:
    text, odd, quoted = root_of(b"(U\x02abT\x02\x00\x00\x00\xff\xfeS'a\\x62'\nt.").items
    assert isinstance(text, Const) and isinstance(odd, Const) and isinstance(quoted, Const)
    assert (text.value, text.undecodable) == ("ab", False)
    assert (odd.value, odd.undecodable) == (b"\xff\xfe", True)
    assert quoted.value == "ab"


def test_that_text_that_is_no_utf8_keeps_its_bytes() -> None:
    node = parse(b"\x80\x02X\x02\x00\x00\x00\xff\xfe.").root
    assert isinstance(node, Const)
    assert (node.value, node.undecodable) == (b"\xff\xfe", True)


def test_that_huge_numbers_stay_numbers_and_huge_digits_stay_digits() -> None:
    length = 500_000
    node = parse(b"\x80\x02\x8b" + struct.pack("<i", length) + b"\x7f" * length + b".").root
    assert isinstance(node, Const) and isinstance(node.value, int)
    assert node.value.bit_length() == length * 8 - 1
    digits = parse(b"I" + b"1" * 100_000 + b"\n.").root
    assert isinstance(digits, Const)
    assert digits.undecodable
    assert digits.value == b"1" * 100_000


def test_that_calls_of_every_kind_become_nodes() -> None:
    data = b"(i__main__\nA\n(c__main__\nB\nK\x01oc__main__\nC\n)\x81c__main__\nD\n)}\x92c__main__\nE\n)R"
    pickle_ = parse(b"(" + data + b"t.")
    assert [(call.kind, call.function.qualified) for call in pickle_.calls if isinstance(call.function, Global)] == [
        ("inst", "__main__.A"),
        ("obj", "__main__.B"),
        ("newobj", "__main__.C"),
        ("newobj_ex", "__main__.D"),
        ("reduce", "__main__.E"),
    ]
    assert [name.name for name in pickle_.globals] == ["A", "B", "C", "D", "E"]


def test_that_other_opcodes_become_inert_nodes() -> None:
    root = root_of(b"(\x82\x01\x83\x01\x00\x84\x01\x00\x00\x00\x97\x98P12\nK\x05Qt.")
    assert [type(item) for item in root.items] == [Other, Other, Other, Other, Persistent, Persistent]
    readonly = root.items[3]
    assert isinstance(readonly, Other) and isinstance(readonly.child, Other)


def test_that_what_is_popped_is_kept_with_the_node_below() -> None:
    pickle_ = parse(b"]cos\nsystem\nX\x02\x00\x00\x00ls\x85R0K\x01a.")
    assert pickle_.root is not None
    assert [effect.kind for effect in pickle_.root.effects] == ["pop", "append"]
    assert len(pickle_.calls) == 1


def test_that_states_are_listed_in_order() -> None:
    root = parse(b"c__main__\nA\n)\x81}bK\x01b.").root
    assert root is not None
    assert [type(state) for _, state in states(root)] == [Group, Const]


def test_that_several_pickles_in_a_row_are_read_one_by_one() -> None:
    data = b"junk" + pickle.dumps("a", 2) + pickle.dumps("b", 4) + b"rest"
    first = parse(data, 4)
    second = parse(data, first.end)
    assert isinstance(first.root, Const) and isinstance(second.root, Const)
    assert (first.root.value, second.root.value, data[second.end :]) == ("a", "b", b"rest")
    assert (first.protocol, second.protocol) == (2, 4)


@pytest.mark.parametrize(
    ("data", "at"),
    [
        (b"", 0),
        (b"\x80\x02", 2),
        (b"\x80\x02}", 3),
        (b"\x80\x06N.", 0),
        (b"\x80\xffN.", 0),
        (b"\x80\x02\xfe.", 2),
        (b"\x80\x02.", 2),
        (b"\x80\x02X\xff\xff\xff\xffab.", 2),
        (b"\x80\x04\x8c\x09ab.", 2),
        (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xffab.", 2),
        (b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x40N.", 2),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7fab.", 2),
        (b"T\xff\xff\xff\xff.", 0),
        (b"\x8b\xff\xff\xff\xff.", 0),
        (b"\x8a\xffab.", 0),
        (b"B\xff\xff\xff\xffab.", 0),
        (b"K", 0),
        (b"NK", 1),
        (b"Nq", 1),
        (b"h\x01.", 0),
        (b"g1\n.", 0),
        (b"gx\n.", 0),
        (b"Np" + b"9" * 5000 + b"\n.", 1),
        (b"t.", 0),
        (b"(a.", 1),
        (b"R.", 0),
        (b"K\x01(K\x02R.", 5),
        (b"}(K\x01u.", 4),
        (b"(K\x01d.", 3),
        (b"(o.", 1),
        (b"K\x01K\x02\x93.", 4),
        (b"]X\x01\x00\x00\x00a\x93.", 7),
        (b"Iabc\n.", 0),
        (b"Fabc\n.", 0),
        (b"Sabc\n.", 0),
        (b"S'\\x'\n.", 0),
        (b"cos", 0),
        (b"cos\nsys", 0),
        (b"\x82", 0),
        (b"\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00K\x01K\x02.", None),
        (b"\x80\x04\x95\x03\x00\x00\x00\x00\x00\x00\x00NK\x01K\x02t.", None),
        (b"\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00NX\x01\x00\x00\x00a.", 18),
        (b"\x80\x04\x95\x0a\x00\x00\x00\x00\x00\x00\x00\x95\x01\x00\x00\x00\x00\x00\x00\x00N.", 11),
    ],
)
def test_that_damage_is_told_with_its_place(data: bytes, at: int | None) -> None:
    if at is None:  # two frames' ends that opcodes respect
        parse_partial(data)
        return
    with pytest.raises(CorruptCheckpoint) as caught:
        parse(data)
    assert caught.value.code == "bad_pickle"
    assert caught.value.path == ""
    assert f"byte {at}" in caught.value.message
    assert parse_partial(data).broken == caught.value.message


def test_that_what_stands_before_the_damage_is_still_told() -> None:
    found = parse_partial(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R\xfe\xfe")
    assert found.broken
    assert found.root is None
    assert [name.qualified for name in found.globals] == ["os.system"]
    assert len(found.calls) == 1
    assert found.left_over == found.calls


def test_that_any_damage_gives_one_error_and_no_other() -> None:
    rng = random.Random(20)
    sources = [pickle.dumps(thing, rng.randrange(6)) for thing in objects().values()]
    sources = [source for source in sources if len(source) < 4000]
    sources.append(torch_pickle(tensors(12)))
    sources.append(torch_pickle(tensors(12), 4))
    read = broken = 0
    for _ in range(20_000):
        data = bytearray(rng.choice(sources))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data))
            kind = rng.randrange(3)
            if kind == 0:
                data[at] = rng.randrange(256)
            elif kind == 1:
                del data[at : at + rng.randrange(1, 5)]
            else:
                data[at:at] = bytes((rng.randrange(256),))
            data = data or bytearray(b"N.")
        try:
            parse(bytes(data))
            read += 1
        except CorruptCheckpoint:
            broken += 1
    assert read > 1000
    assert broken > 1000


def test_that_deep_nesting_is_only_long() -> None:
    depth = 100_000
    node = parse(b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".").root
    levels = 0
    while node is not None:
        levels += 1
        node = node.effects[0].items[0] if node.effects else None
    assert levels == depth


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02Nr\xff\xff\xff\x7f.",
        b"Np4294967295\n.",
        b"\x80\x02" + b"X\xff\xff\xff\x7f",
        b"\x80\x02\x8b\xff\xff\xff\x7f",
        b"\x80\x02" + b"]q\x00" + b"(h\x00h\x00e" * 1000 + b".",
        b"N" + b"2" * 100_000 + b".",
        b"]" + b"\x94" * 100_000 + b".",
    ],
)
def test_that_a_bomb_stays_small(data: bytes) -> None:
    tracemalloc.start()
    try:
        parse_partial(data)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


def test_that_cancelling_stops_and_leaves_the_collector_as_it_was() -> None:
    def stop(done: int, total: int) -> None:
        if done:
            raise Cancelled

    assert gc.isenabled()
    with pytest.raises(Cancelled):
        parse(b"\x80\x02(" + b"N" * 100_000 + b"t.", progress=stop)
    assert gc.isenabled()
    gc.disable()
    try:
        parse(b"N.")
        assert not gc.isenabled()
    finally:
        gc.enable()


# ---- tensor records


def described(data: bytes) -> list[tuple[object, ...]]:
    """(key, storage key, location, numel, offset, size, stride, flag) of every tensor in a flat state dict."""
    pickle_ = parse(data)
    rows: list[tuple[object, ...]] = []
    assert pickle_.root is not None
    for _, key, value in pairs(pickle_.root):
        assert isinstance(key, Const)
        if isinstance(value, TensorRecord):
            row = (value.key, value.location, value.numel, value.offset, value.size, value.stride, value.requires_grad)
            rows.append((key.value, value.storage_class.name, *row))
            call = pickle_.expand(value)
        else:
            assert isinstance(value, Call)
            call = value
        args = call.args[0]
        assert isinstance(args, Group)
        storage, offset, size, stride, flag, _ = args.items
        assert isinstance(storage, Persistent) and isinstance(storage.id, Group) and isinstance(size, Group)
        _, cls, storage_key, location, numel = storage.id.items[:5]
        assert isinstance(cls, Global) and isinstance(stride, Group)
        consts = [node.value for node in (storage_key, location, numel, offset) if isinstance(node, Const)]
        assert isinstance(flag, Const)
        slow = (key.value, cls.name, *consts, tuple(values(size)), tuple(values(stride)), flag.value)
        if isinstance(value, TensorRecord):
            assert rows[-1] == slow
        else:
            rows.append(slow)
    return rows


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_that_tensor_records_say_what_their_opcodes_say(protocol: int) -> None:
    state = tensors(300)
    state["slice"] = state["layers.5.weight"][10:20]
    state["grad"] = state["layers.1.weight"].clone().requires_grad_()
    data = torch_pickle(state, protocol)
    assert len(parse(data).records) > 290
    rows = described(data)
    assert [row[0] for row in rows] == list(state)
    for row, tensor in zip(rows, state.values(), strict=True):
        assert row[5:] == (tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.requires_grad)
        assert row[4] == tensor.untyped_storage().nbytes() // 4


def test_that_tensors_on_one_storage_name_the_same_key() -> None:
    base = torch_views()
    rows = described(torch_pickle(base))
    assert len({row[2] for row in rows}) == 1
    assert [row[5] for row in rows] == [10 * i for i in range(len(rows))]
    assert len(parse(torch_pickle(base)).records) == len(rows) - 1


def torch_views() -> dict[str, object]:
    import torch

    flat = torch.zeros(500)
    return {f"p{i}": flat[10 * i : 10 * i + 10] for i in range(50)}


def test_that_a_tied_tensor_is_one_node() -> None:
    state = tensors(50)
    state["tied"] = state["layers.40.weight"]
    root = parse(torch_pickle(state)).root
    assert root is not None
    by_key = {
        key.value: value for _, key, value in pairs(root) if isinstance(key, Const) and isinstance(key.value, str)
    }
    assert by_key["tied"] is by_key["layers.40.weight"]
    assert isinstance(by_key["tied"], TensorRecord)


def test_that_a_slot_inside_a_record_can_be_fetched() -> None:
    data = torch_pickle(tensors(4))
    record = parse(data).records[-1]
    for slot in range(record.first_slot, record.puts[0] + 1):
        again = parse(data[:-1] + b"0h" + bytes((slot,)) + b".").root
        assert again is not None
        assert slot in again.puts


def test_that_a_slot_inside_a_record_is_found_where_what_the_record_names_holds_itself() -> None:
    # BUILD on the class of the hooks, with that class in the state: a circle that every later record leads into.
    data = torch_pickle(tensors(3))
    first, last = parse(data).records
    slot = next(slot for slot, node in last.names.items() if node is last.hooks_class)
    circle = b"h" + bytes((slot,)) + b"}X\1\0\0\0kh" + bytes((slot,)) + b"sb0"
    changed = data[: first.end] + circle + data[first.end : -1] + b"0h" + bytes((last.first_slot,)) + b"."
    again = parse(changed).root
    assert again is not None
    assert last.first_slot in again.puts


def test_that_a_record_with_a_changed_memo_slot_is_not_taken_for_one() -> None:
    # A PUT inside the call that overwrites the slot of the storage class: what later GETs fetch is another thing.
    data = torch_pickle(tensors(6))
    pickle_ = parse(data)
    record = pickle_.records[1]
    inside = data[record.at : record.end]
    slot = next(slot for slot, node in record.names.items() if node is record.storage_class)
    changed = (
        data[: record.at]
        + inside.replace(b"q" + bytes((record.first_slot,)), b"q" + bytes((slot,)))
        + data[record.end :]
    )
    found = parse(changed)
    assert found.reused_slots
    assert found.unfaithful
    assert all(after.at < record.at for after in found.records)


def test_that_a_string_of_another_length_is_not_taken_for_a_key() -> None:
    data = torch_pickle(tensors(6))
    record = parse(data).records[2]
    wrong = bytearray(data)
    wrong[data.index(b"X\x01\x00\x00\x00" + record.key.encode() + b"q", record.at) + 1] = 2
    found = parse_partial(bytes(wrong))
    assert record.at not in {other.at for other in found.records}


def test_that_records_are_recognised_after_keys_that_store_no_slot() -> None:
    pickle_ = parse(torch_pickle(tensors(300)))
    assert pickle_.root is not None
    keys = {place: f"k{i}" for i, (place, _, _) in enumerate(pairs(pickle_.root))}
    renamed = emit(pickle_, Edits(keys=keys)).data
    assert len(parse(renamed).records) == len(pickle_.records)
    assert [row[1:] for row in described(renamed)] == [row[1:] for row in described(pickle_.data)]
