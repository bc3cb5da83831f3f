"""What a load message says of the model that it is about."""

from __future__ import annotations

import pytest

from sdviewer.core.key_table import KeyTable
from sdviewer.errors import OpenError
from sdviewer.repair.messages import read_message
from sdviewer.repair.messages.as_target import target_of_message
from sdviewer.repair.target import Target


def table(entries: dict[str, tuple[int, ...]], not_tensors: frozenset[int] = frozenset()) -> KeyTable:
    return KeyTable(tuple(entries), tuple(entries.values()), ("float32",) * len(entries), not_tensors=not_tensors)


def target(text: str, source: KeyTable) -> Target:
    message = read_message(text)
    assert message is not None
    return target_of_message(message, source)


def shapes(found: Target) -> dict[str, tuple[int, ...] | None]:
    return dict(zip(found.table.keys, found.table.shapes, strict=True))


def strict(missing: str = "", unexpected: str = "", more: str = "") -> str:
    lines = ["RuntimeError: Error(s) in loading state_dict for Net:"]
    for name, keys in (("Missing", missing), ("Unexpected", unexpected)):
        if keys:
            quoted = ", ".join(f'"{key}"' for key in keys.split())
            lines.append(f"\t{name} key(s) in state_dict: {quoted}. ")
    return "\n".join(lines) + "\n" + more


def test_that_keys_are_the_source_without_the_unexpected_and_with_the_missing() -> None:
    size = (
        "\tsize mismatch for head.weight: copying a param with shape torch.Size([20, 4]) from checkpoint, the shape in "
        "current model is torch.Size([10, 4])."
    )
    source = table({"stem.weight": (4, 3), "fc.weight": (4, 4), "head.weight": (20, 4)})
    found = target(strict("proj.weight", "fc.weight", size), source)
    assert found.model == "Net"
    assert shapes(found) == {"stem.weight": (4, 3), "head.weight": (10, 4), "proj.weight": None}
    assert any("1 key" in note and "shape" in note for note in found.notes)


def test_that_counters_which_no_loader_calls_missing_are_added_and_marked() -> None:
    source = table({f"module.bn.{name}": (4,) for name in ("weight", "running_mean", "running_var")})
    counter = "module.bn.num_batches_tracked"
    source = table({**dict(zip(source.keys, [(4,)] * 3, strict=True)), counter: ()})
    text = strict("bn.weight bn.running_mean bn.running_var", " ".join(source.keys))
    found = target(text, source)
    assert found.table.keys == ("bn.weight", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked")
    assert found.unreported == {"bn.num_batches_tracked"}
    assert shapes(found)["bn.num_batches_tracked"] == ()
    assert found.table.ordered


def test_that_a_counter_the_model_does_not_know_is_not_added() -> None:
    source = table({"bn.running_mean": (4,), "bn.running_var": (4,), "bn.num_batches_tracked": ()})
    found = target(strict("", "bn.num_batches_tracked"), source)
    assert found.table.keys == ("bn.running_mean", "bn.running_var")
    assert not found.unreported


def test_that_a_whole_checkpoint_that_was_loaded_asks_to_be_unwrapped() -> None:
    source = table({"module.a.weight": (2,), "module.b.weight": (3,)})
    found = target(strict("a.weight b.weight", "model optimizer epoch"), source)
    assert found.table.keys == ("a.weight", "b.weight")
    assert any("unwrap" in note and '"optimizer"' in note for note in found.notes)
    assert not found.incomplete


def test_that_a_message_about_another_file_is_said_to_be() -> None:
    found = target(strict("a.weight", "x.weight y.weight"), table({"a.w": (2,), "b.w": (3,)}))
    assert found.table.keys == ("a.weight",)
    assert found.incomplete
    assert any("another file" in note for note in found.notes)


def test_that_where_all_matched_the_model_has_the_keys_of_the_source() -> None:
    source = table({"a": (2,), "b": ()})
    assert shapes(target("<All keys matched successfully>", source)) == {"a": (2,), "b": ()}


def test_that_an_entry_that_is_no_tensor_has_an_unknown_shape() -> None:
    text = strict(
        more='\tWhile copying the parameter named "b", expected torch.Tensor or Tensor-like object from checkpoint but '
        "received <class 'list'>"
    )
    assert shapes(target(text, table({"a": (2,), "b": ()}, frozenset({1})))) == {"a": (2,), "b": None}


def test_that_a_folded_report_is_borne_out_by_the_source() -> None:
    report = (
        "Net LOAD REPORT from: x\nKey | Status | |\n---+---+\n"
        "l.{0...11}.old | UNEXPECTED | |\nl.{0...11}.new | MISSING | |\n"
        "l.{0...11}.w | MISMATCH | Reinit due to size mismatch - ckpt: torch.Size([4, 2]) vs "
        "model:torch.Size([4, 3]) |\n"
    )
    source = table(
        {f"l.{i}.old": (1,) for i in range(12) if i != 5}
        | {"l.5.new": (9,)}
        | {f"l.{i}.w": (4, 2) if i < 6 else (4, 3) for i in range(12)}
    )
    found = target(report, source)
    assert found.approximate
    known = shapes(found)
    assert "l.4.old" not in known
    assert known["l.5.new"] == (9,)
    assert "l.4.new" in known
    assert [known[f"l.{i}.w"] for i in range(12)] == [(4, 3)] * 12


def test_that_a_message_that_names_nothing_of_the_model_is_no_target() -> None:
    for text in ("Expected state_dict to be dict-like, got <class 'list'>.", strict("", "a")):
        with pytest.raises(OpenError) as caught:
            target(text, table({"a": (1,)}))
        assert caught.value.code == "bad_target"
        assert caught.value.remedy


def test_that_a_cut_message_makes_an_incomplete_target() -> None:
    assert target(strict("a b")[:-6], table({"c": (1,)})).incomplete


def test_that_keys_of_an_adapter_are_those_of_its_file_without_the_name_of_the_adapter() -> None:
    source = KeyTable(("model.q.lora_A.weight", "model.q.lora_B.weight"), [(2, 4), (4, 2)], ["float32"] * 2)
    wanted = [f"base_model.model.q.lora_{side}.default.weight" for side in "AB"]
    message = read_message(f"Found missing adapter keys while loading the checkpoint: {wanted}.")
    assert message is not None
    found = target_of_message(message, source)
    assert found.table.keys == ("base_model.model.q.lora_A.weight", "base_model.model.q.lora_B.weight")
    differs = read_message(
        "Error(s) in loading state_dict for PeftModel:\n\tsize mismatch for model.q.lora_A.default.weight: copying a "
        "param with shape torch.Size([2, 4]) from checkpoint, the shape in current model is torch.Size([2, 8])."
    )
    assert differs is not None
    assert target_of_message(differs, source).table.shapes == ((2, 8), (4, 2))
