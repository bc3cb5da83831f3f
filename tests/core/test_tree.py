"""The module tree: what stands where, what folds, what it sums up to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sdviewer.core.checkpoint import ObjectInfo, ValueInfo
from sdviewer.core.paths import TypedStep
from sdviewer.core.sheet import CHILDREN, COLUMNS, DROPPED, EDITED, Sheet, pack
from sdviewer.core.tree import ModuleTree, build_tree
from sdviewer.formats import open_checkpoint
from tests.core.builders import checkpoint, tensor


def outline(tree: ModuleTree) -> list[str]:
    """The tree as indented text."""
    return [f"{'  ' * tree.depth[row]}{tree.name[row]}" for row in range(len(tree))]


BLOCK = {"attn.qkv.weight": (6, 2), "attn.qkv.bias": (6,), "norm.weight": (2,), "norm.bias": (2,)}


def blocks(*numbers: int, **other: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, 2)}
    for n in numbers:
        shapes |= {f"blocks.{n}.{key}": shape for key, shape in BLOCK.items()}
    return shapes | other


def test_that_keys_become_modules_and_a_lone_child_shares_its_row() -> None:
    tree = build_tree(checkpoint({"conv1.weight": (4, 3, 3, 3), "bn1.weight": (4,), "bn1.bias": (4,)}))
    assert outline(tree) == ["model", "  conv1.weight", "  bn1", "    weight", "    bias"]
    assert tree.note[0] == "3 tensors"
    assert tree.dtype[0] == "f32"
    assert tree.shape[1] == "4×3×3×3"
    assert tree.params[:3] == [116, 108, 8]


def test_that_a_tensor_of_which_only_the_key_is_known_counts_for_nothing() -> None:
    """A key whose shard is missing: not a scalar, of one parameter."""
    made = checkpoint({"a.weight": (2, 3), "a.bias": ()})
    lost = made.tensors[1]._replace(dtype="", nbytes=0, unreadable="its file is not there")
    tree = build_tree(replace(made, tensors=(made.tensors[0], lost)))
    row = tree.name.index("bias")
    assert (tree.params[row], tree.shape[row], tree.dtype[row]) == (0, "", "")
    assert tree.params[0] == 6


def test_that_alike_blocks_fold_and_the_odd_one_stays_out() -> None:
    shapes = blocks(*range(10))
    shapes["blocks.7.attn.qkv.weight"] = (6, 3)
    tree = build_tree(checkpoint(shapes))
    below_blocks = [tree.name[row] for row in range(len(tree)) if tree.depth[row] == 2]
    assert below_blocks == ["0 – 6", "7", "8", "9"]
    fold = tree.name.index("0 – 6")
    assert tree.note[fold] == "7 blocks alike"
    assert tree.tensors[fold] == 28
    assert tree.params[fold] == 7 * (12 + 6 + 2 + 2)


def test_that_numbered_siblings_stand_in_numeric_order() -> None:
    tree = build_tree(checkpoint({f"layers.{n}.w": (n + 1,) for n in (0, 10, 2, 1)}))
    assert [name for name in tree.name if name.endswith(".w")] == ["0.w", "1.w", "2.w", "10.w"]


def test_that_file_order_is_kept_where_nothing_is_numbered() -> None:
    tree = build_tree(checkpoint({"z.a": (1,), "z.b": (1,), "head": (1,), "a": (1,)}))
    assert outline(tree) == ["model", "  z", "    a", "    b", "  head", "  a"]


def test_that_a_key_that_is_also_a_prefix_has_both_rows() -> None:
    tree = build_tree(checkpoint({"a": (1,), "a.b": (1,), "a.c": (1,)}))
    assert outline(tree) == ["model", "  a", "  a", "    b", "    c"]


def test_that_odd_dots_lose_nothing() -> None:
    keys = ["", ".", "a.", ".a", "a..b", "..."]
    tree = build_tree(checkpoint(dict.fromkeys(keys, (1,))))
    assert sorted(tree.path_text[row] for row in range(len(tree)) if tree.tensor[row] >= 0) == sorted(keys)


def test_that_values_and_objects_stand_behind_the_tensors() -> None:
    values = [
        ValueInfo(("epoch",), "builtins.int", 42),
        ValueInfo(("args", TypedStep("attribute", "lr")), "builtins.float", 0.1),
    ]
    objects = [ObjectInfo(("args",), "argparse.Namespace", known=False)]
    tree = build_tree(checkpoint({"w": (2,)}, path=("state_dict",), values=values, objects=objects))
    assert outline(tree) == ["state_dict", "  w", "args", "  lr", "epoch"]
    assert tree.note[tree.name.index("args")] == "argparse.Namespace · 1 value"
    assert tree.note[tree.name.index("epoch")] == "42"


def test_that_an_entry_that_is_no_tensor_stands_among_its_module() -> None:
    value = ValueInfo(("fc.scale",), "builtins.float", 0.5)
    tree = build_tree(checkpoint({"fc.weight": (2, 2)}, values=[value], other_keys=["fc.scale"]))
    assert outline(tree) == ["model", "  fc", "    weight", "    scale"]
    assert tree.entry[3] == 1


def test_that_edits_move_rows_and_mark_what_goes() -> None:
    source = checkpoint({"module.a.w": (2,), "module.a.b": (3,), "module.c.w": (4,)})
    tree = build_tree(source, {0: ["a.w", None, "c.w"]})
    assert outline(tree) == ["model", "  a.w", "  module.a.b", "  c.w"]
    assert tree.old_key[1] == "module.a.w"
    assert tree.dropped == [False, False, True, False]


def test_that_a_deep_key_does_not_exhaust_the_stack() -> None:
    key = ".".join(["a"] * 5000)
    tree = build_tree(checkpoint({key: (1,), "b": (1,)}))
    assert key in tree.path_text


def test_that_the_sheet_tells_the_same_as_the_tree() -> None:
    source = checkpoint(blocks(0, 1, 2, 3) | {"odd \ud800 key": (0, 3)})
    tree = build_tree(source, {0: [*list(source.state_dicts[0].keys)[:-1], None]})
    buffers, dtypes = pack(tree)
    sheet = Sheet.from_buffers({name: memoryview(data) for name, data in buffers.items()}, dtypes)
    assert len(sheet) == len(tree)
    for row in range(len(tree)):
        assert sheet.name(row) == tree.name[row]
        assert sheet.note(row) == tree.note[row]
        assert sheet.shape(row) == tree.shape[row]
        assert sheet.kind(row) == tree.kind[row]
        assert sheet.dtype(row) == tree.dtype[row]
        assert sheet.columns["params"][row] == tree.params[row]
        flags = sheet.columns["flags"][row]
        assert bool(flags & CHILDREN) == (tree.end[row] > row + 1)
        assert bool(flags & DROPPED) == tree.dropped[row]
        assert bool(flags & EDITED) == bool(tree.old_key[row])
    assert set(buffers) == {*COLUMNS, "text"}
    total = sum(sheet.columns["share"][row] for row in range(len(tree)) if tree.parent[row] == 0)
    assert abs(total - 1) < 1e-6


def test_that_what_a_tensor_is_made_of_stands_below_it_and_is_not_counted_twice() -> None:
    whole = tensor(("w",), "w", (4, 4), kind="sparse", storage=None)
    parts = [
        tensor(("w", TypedStep("part", "indices")), None, (2, 3), "int64"),
        tensor(("w", TypedStep("part", "values")), None, (3,)),
    ]
    found = checkpoint({"w": (4, 4)}, values=[ValueInfo(("w", TypedStep("attribute", "tag")), "builtins.str", "x")])
    tree = build_tree(replace(found, tensors=(whole, *parts)))
    assert outline(tree) == ["model", "  w", "    indices", "    values", "    tag"]
    assert tree.params[:2] == [16, 16]
    assert tree.tensors[0] == 1


def test_that_a_tensor_beside_the_model_makes_no_second_model_of_the_whole_file() -> None:
    model = checkpoint({"a": (2,), "b": (2,)}, path=("model",))
    root = replace(model.state_dicts[0], path=(), keys=("rng", "model"), tensor_of=(2, -1))
    beside = tensor(("rng",), "rng", (5,))._replace(state_dict=1)
    epoch = ValueInfo(("epoch",), "builtins.int", 3)
    found = replace(model, state_dicts=(*model.state_dicts, root), tensors=(*model.tensors, beside), values=(epoch,))
    tree = build_tree(found)
    assert outline(tree) == ["model", "  a", "  b", "rng", "epoch"]
    assert build_tree(found, {1: ["seed", "model"]}).name.count("seed") == 1  # an edit of it is still shown


def test_that_the_entries_of_an_optimizer_say_whose_they_are(tmp_path: Path) -> None:
    import torch

    layer = torch.nn.Linear(2, 3)
    layer.weight.grad, layer.bias.grad = torch.ones(3, 2), torch.ones(3)
    optimizer = torch.optim.SGD(layer.parameters(), momentum=0.9)
    optimizer.step()
    torch.save({"model": layer.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "t.pth")
    tree = build_tree(open_checkpoint(tmp_path / "t.pth"))
    assert tree.note[tree.name.index("0")].startswith("weight · ")
    assert tree.note[tree.name.index("1")].startswith("bias · ")
