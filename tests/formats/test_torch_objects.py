from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import pathlib
import pickle
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.paths import TypedStep, dotted
from sdviewer.formats import open_checkpoint
from sdviewer.pickles.nodes import Const
from tests.formats.conftest import Save, build_zip, torch_members

Write = Callable[..., Path]


def opened(write: Write, thing: Any, protocol: int = 2) -> Checkpoint:
    data = thing if isinstance(thing, bytes) else pickle.dumps(thing, protocol)
    return open_checkpoint(write(build_zip(torch_members(data, {})).data))


def values(checkpoint: Checkpoint) -> dict[str, tuple[str, Any]]:
    return {dotted(value.path): (value.type, value.value) for value in checkpoint.values}


def key_at(checkpoint: Checkpoint, state_dict: int, entry: int) -> Any:
    """The key that stands in the graph where the state dict's source says that entry stands."""
    place = checkpoint.source.mappings[state_dict].places[entry]
    items = place.node.items if place.effect < 0 else place.node.effects[place.effect].items
    key = items[place.at]
    assert type(key) is Const
    return key.value


def test_that_a_training_checkpoint_is_told_as_its_parts(save: Save) -> None:
    import torch

    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoint = open_checkpoint(
        save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "best": float("nan")})
    )
    assert [(dotted(s.path), s.role, s.tensors) for s in checkpoint.state_dicts] == [
        ("model", "model", 2),
        ("optimizer", "optimizer", 6),
    ]
    assert checkpoint.state_dicts[1].keys[:2] == ("state.0.step", "state.0.exp_avg")
    assert checkpoint.state_dicts[1].read_only
    row = next(tensor for tensor in checkpoint.tensors if tensor.key == "state.1.exp_avg")
    assert row.path == ("optimizer", "state", TypedStep("int", "1"), "exp_avg")
    told = values(checkpoint)
    assert told["epoch"] == ("builtins.int", 3)
    assert told["best"] == ("builtins.float", "nan")
    assert told["optimizer.param_groups.0.betas.1"] == ("builtins.float", 0.999)
    assert told["optimizer.param_groups.0.foreach"] == ("builtins.NoneType", None)


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ((), "model"),
        (("state_dict",), "model"),
        (("model",), "model"),
        (("trainer", "model_state_dict"), "model"),
        (("model_ema",), "ema"),
        (("ema", "shadow"), "ema"),
        (("EMA_weights",), "ema"),
        (("averaged_model",), "ema"),
        (("schema",), "other"),
        (("callbacks", "best"), "other"),
    ],
)
def test_that_a_state_dict_has_the_role_that_its_place_says(save: Save, path: tuple[str, ...], role: str) -> None:
    import torch

    thing: Any = {"w": torch.ones(1)}
    for step in reversed(path):
        thing = {step: thing, "n": 1}
    (state_dict,) = open_checkpoint(save(thing)).state_dicts
    assert (state_dict.path, state_dict.role) == (path, role)


def test_that_the_source_says_where_every_entry_stands(save: Save) -> None:
    import torch

    checkpoint = open_checkpoint(
        save({"a": {f"k{i}": torch.ones(1) for i in range(1500)} | {"n": 5}, "b": {"only": torch.ones(2)}})
    )
    for i, state_dict in enumerate(checkpoint.state_dicts):
        mapping = checkpoint.source.mappings[i]
        assert [key_at(checkpoint, i, entry) for entry in range(len(mapping.places))] == list(state_dict.keys)
        parent = mapping.parent
        assert parent is not None
        assert parent.node.effects[parent.effect].items[parent.at + 1] is mapping.node
    assert checkpoint.state_dicts[0].tensor_of[-1] == -1


class Block:
    """Stands in for a module of a class that is lost: nothing but its state is written."""

    def __init__(self, **state: Any) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        return (argparse.Namespace, (), self.state)


def block(parameters: Any = None, buffers: Any = None, modules: Any = None, **more: Any) -> Block:
    return Block(
        training=True,
        _parameters=parameters or {},
        _buffers=buffers or {},
        _modules=modules or {},
        _forward_hooks={},
        **more,
    )


def test_that_a_pickled_module_is_walked_as_torch_names_it(save: Save) -> None:
    import torch

    parameter = torch.nn.Parameter(torch.ones(2))
    inner = block({"weight": parameter, "bias": None}, {"count": torch.tensor(1)}, width=7)
    outer = block(
        {"scale": torch.nn.Parameter(torch.ones(1))},
        {"mask": torch.ones(3), "kept": torch.ones(1)},
        {"inner": inner, "none": None},
        _non_persistent_buffers_set={"mask"},
        cached=torch.zeros(4),
    )
    checkpoint = open_checkpoint(save(outer))
    (state_dict,) = checkpoint.state_dicts
    assert (state_dict.is_module, state_dict.role) == (True, "model")
    assert state_dict.keys == ("scale", "kept", "inner.weight", "inner.count")
    rows = {dotted(tensor.path): tensor for tensor in checkpoint.tensors}
    assert rows["inner.weight"].path == (TypedStep("module", "inner"), TypedStep("parameter", "weight"))
    assert (rows["inner.weight"].kind, rows["inner.count"].kind) == ("parameter", "buffer")
    assert (rows["mask"].kind, rows["mask"].key) == ("buffer", None)
    assert (rows["cached"].path, rows["cached"].state_dict) == ((TypedStep("attribute", "cached"),), None)
    told = values(checkpoint)
    assert told["inner.width"] == ("builtins.int", 7)
    assert told["inner.class"] == ("builtins.str", "argparse.Namespace")
    assert "training" not in told
    assert [key_at(checkpoint, 0, entry) for entry in range(4)] == ["scale", "kept", "weight", "count"]


def test_that_real_modules_have_the_keys_of_their_state_dict(save: Save) -> None:
    import torch

    model = torch.nn.Sequential(
        collections.OrderedDict(
            fc=torch.nn.Linear(2, 3),
            bn=torch.nn.BatchNorm1d(3),
            deep=torch.nn.ModuleDict({"e": torch.nn.Embedding(3, 2)}),
        )
    )
    model.deep["tied"] = model.fc
    checkpoint = open_checkpoint(save(model))
    assert checkpoint.state_dicts[0].keys == tuple(model.state_dict())


def test_that_an_untouched_key_that_stands_twice_is_counted(write: Write) -> None:
    data = b"\x80\2}(X\1\0\0\0aK\1X\1\0\0\0aK\2X\1\0\0\0bK\3u."
    checkpoint = opened(write, data)
    assert [(value.path, value.value, value.occurrence) for value in checkpoint.values] == [
        (("a",), 1, 1),
        (("a",), 2, 2),
        (("b",), 3, 0),
    ]
    assert [problem.code for problem in checkpoint.problems] == ["duplicate_key"]


def test_that_keys_of_every_type_are_told_apart(write: Write) -> None:
    keys = {1: 0, "1": 1, 2.5: 2, None: 3, False: 4, ("a", 1): 5, b"x": 6, frozenset({3}): 7}
    steps = [value.path[0] for value in opened(write, keys).values]
    assert steps == [
        TypedStep("int", "1"),
        "1",
        TypedStep("float", "2.5"),
        TypedStep("none", "None"),
        TypedStep("bool", "False"),
        TypedStep("tuple", "('a', 1)"),
        TypedStep("bytes", "b'x'"),
        TypedStep("frozenset", "frozenset({3})"),
    ]


class Plain:
    def __init__(self) -> None:
        self.rate = 0.5
        self.names = ["x"]


def test_that_plain_python_objects_are_values(write: Write) -> None:
    thing = {
        "text": "multi\nline",
        "long": 1 << 70,
        "bytes": b"\0ab",
        "array": bytearray(b"abc"),
        "complex": 1 - 2j,
        "set": {4},
        "range": range(1, 9, 2),
        "path": pathlib.PurePosixPath("/data/x"),
        "decimal": decimal.Decimal("1.10"),
        "uuid": uuid.UUID(int=5),
        "date": datetime.date(2024, 1, 2),
        "when": datetime.datetime(2024, 2, 3, 4, 5, 6),
        "span": datetime.timedelta(days=1),
        "queue": collections.deque([1, 2]),
        "type": int,
        "empty": {},
        "none": collections.OrderedDict(),
        "inf": float("-inf"),
        "huge": 1 << 100_000,
        "state": (3, tuple(range(625)), None),
    }
    told = values(opened(write, thing))
    assert told["text"] == ("builtins.str", "multi\nline")
    assert told["long"] == ("builtins.int", 1 << 70)
    assert told["bytes"] == ("builtins.bytes", "b'\\x00ab'")
    assert told["array"] == ("builtins.bytearray", "bytearray(b'abc')")
    assert told["complex"] == ("builtins.complex", "(1-2j)")
    assert told["set"] == ("builtins.set", "{4}")
    assert told["range"] == ("builtins.range", "range(1, 9, 2)")
    assert told["path"] == ("pathlib.PurePosixPath", "/data/x")
    assert told["decimal"] == ("decimal.Decimal", "1.10")
    assert told["uuid"] == ("uuid.UUID", "00000000-0000-0000-0000-000000000005")
    assert told["date"] == ("datetime.date", "2024-01-02")
    assert told["when"] == ("datetime.datetime", "2024-02-03 04:05:06")
    assert told["span"] == ("datetime.timedelta", "datetime.timedelta(1, 0, 0)")
    assert told["queue.1"] == ("builtins.int", 2)
    assert told["type"] == ("builtins.type", "builtins.int")
    assert told["empty"] == ("builtins.dict", {})
    assert told["none"] == ("collections.OrderedDict", {})
    assert told["inf"] == ("builtins.float", "-inf")
    assert told["huge"][1].startswith("0x1000")
    assert told["state.1"] == ("builtins.tuple", list(range(625)))
    assert told["state.2"] == ("builtins.NoneType", None)


def test_that_torch_and_numpy_values_are_told(save: Save) -> None:
    import numpy as np
    import torch

    told = values(
        open_checkpoint(
            save(
                {
                    "size": torch.Size([1, 2]),
                    "dtype": torch.bfloat16,
                    "device": torch.device("cuda", 1),
                    "layout": torch.sparse_coo,
                    "scalar": np.float64(2.5),
                    "array": np.zeros((2, 3), np.float32),
                }
            )
        )
    )
    assert told["size"] == ("torch.Size", [1, 2])
    assert told["dtype"] == ("torch.dtype", "torch.bfloat16")
    assert told["device"] == ("torch.device", "cuda:1")
    assert told["layout"] == ("torch.layout", "torch.sparse_coo")
    assert told["scalar"] == ("numpy.float64", 2.5)
    assert told["array"] == ("numpy.ndarray", "an array of shape (2, 3) and dtype <f4")


def test_that_an_object_is_told_by_its_attributes(write: Write) -> None:
    checkpoint = opened(write, {"config": Plain()})
    (item,) = checkpoint.objects
    assert (item.path, item.cls.rpartition(".")[2], item.known) == (("config",), "Plain", False)
    assert [(value.path, value.value) for value in checkpoint.values] == [
        (("config", TypedStep("attribute", "rate")), 0.5),
        (("config", TypedStep("attribute", "names"), TypedStep("index", "0")), "x"),
    ]


def test_that_cycles_are_cut(write: Write) -> None:
    thing: dict[str, Any] = {"n": 1}
    thing["self"] = thing
    loop: list[Any] = [2]
    loop.append(loop)
    thing["loop"] = loop
    told = values(opened(write, thing))
    assert told["self"] == ("builtins.dict", "<cycle>")
    assert told["loop.1"] == ("builtins.list", "<cycle>")


def test_that_a_shared_dict_is_told_in_both_places(write: Write) -> None:
    shared = {"x": 1}
    told = values(opened(write, {"a": shared, "b": shared}))
    assert (told["a.x"], told["b.x"]) == (("builtins.int", 1), ("builtins.int", 1))


def test_that_a_graph_of_sixty_lists_does_not_become_a_tree(write: Write) -> None:
    node: list[Any] = [1]
    for _ in range(60):
        node = [node, node]
    checkpoint = opened(write, node)
    assert "repeated" in [problem.code for problem in checkpoint.problems]
    assert len(checkpoint.values) < 500_000


def test_that_one_long_list_named_in_many_places_is_told_once_too_often(write: Write) -> None:
    numbers: list[Any] = list(range(5000))
    checkpoint = opened(write, [numbers] * 1000)
    assert sum(len(value.value) for value in checkpoint.values if isinstance(value.value, list)) < 300_000
    assert len(checkpoint.values) == 1000


def test_that_text_of_a_wide_shared_graph_stays_short(write: Write) -> None:
    key: Any = (1,)
    for _ in range(8):
        key = (key,) * 90
    data = b"\x80\2}" + pickle.dumps(key, 2)[2:-1] + b"K\1s."
    (value,) = opened(write, data).values
    assert len(dotted(value.path)) < 5000
    meta: Any = 1
    for _ in range(12):
        meta = [meta] * 50
    data = b"\x80\2ccollections\nOrderedDict\n)R}X\x09\0\0\0_metadata" + pickle.dumps({"a": meta}, 2)[2:-1] + b"sb."
    opened(write, data)


def test_that_rows_of_long_paths_do_not_fill_the_memory(write: Write) -> None:
    wide = b"\x80\2" + b"](K\1" * 900 + b"](" + b"K\1\x85" + b"K\1N" * 60_000 + b"e" + b"e" * 900 + b"."
    checkpoint = opened(write, wide)
    assert sum(len(value.path) for value in checkpoint.values) < 30_000_000
    assert "too_deep" in [problem.code for problem in checkpoint.problems]


def test_that_nesting_of_any_depth_is_cut_and_told(write: Write) -> None:
    deep = b"\x80\2" + b"]" * 100_000 + b"a" * 99_999 + b"."
    checkpoint = opened(write, deep)
    assert "too_deep" in [problem.code for problem in checkpoint.problems]
    wide = b"\x80\2" + b"](K\1" * 50_000 + b"e" * 50_000 + b"."
    assert "too_deep" in [problem.code for problem in opened(write, wide).problems]
    key = b"\x80\2}" + b")" + b"\x85" * 100_000 + b"K\1s."
    assert len(opened(write, key).values) == 1


def test_that_a_metadata_that_is_none_is_told(write: Write) -> None:
    data = b"\x80\2ccollections\nOrderedDict\n)R}X\x09\0\0\0_metadataK\5sb."
    checkpoint = opened(write, data)
    assert dotted(checkpoint.values[0].path) == "_metadata"


def test_that_a_rebuild_call_with_wrong_arguments_is_an_object_row(write: Write) -> None:
    for arguments in (b")", b"(K\1K\2K\3K\4tK\5", b"(NNNNNNNt", b"(K\5K\0K\4\x85K\1\x85\x89Nt"):
        data = b"\x80\2}X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Rs."
        if arguments.endswith(b"K\5"):
            continue
        checkpoint = opened(write, data)
        assert checkpoint.objects[0].cls == "torch._utils._rebuild_tensor_v2"
        assert checkpoint.objects[0].known
        assert [problem.code for problem in checkpoint.problems] == ["tensor_unreadable"]
