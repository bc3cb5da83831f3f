"""Each test hands the check a file that is wrong in one way only, and the check must say so."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sdviewer.core.progress import no_progress
from sdviewer.errors import SaveError
from sdviewer.formats import open_checkpoint
from sdviewer.formats.file import opened
from sdviewer.formats.saving import edit as edit_plan
from sdviewer.formats.verify import Proof, verify
from tests.formats.saved_files import plan_of, saved


def check(source: Path, written: Path, rename: Mapping[str, str | None], **more: Any) -> Proof:
    checkpoint = open_checkpoint(source)
    plan = plan_of(checkpoint, rename, **more)
    with opened(str(source)) as a, opened(str(written)) as b:
        edits = edit_plan(checkpoint, plan).edits
        return verify(checkpoint, plan, edits, (a, b), open_checkpoint(written), no_progress)


def content() -> dict[str, Any]:
    """A checkpoint with one of everything that a save must keep."""
    base = torch.arange(12.0)
    model = OrderedDict(a=base[:6], b=base[6:], c=torch.ones(2, 3), d=nn.Parameter(torch.zeros(4)), e=None)
    model._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    return {"epoch": 3, "model": model, "args": ["x", (1, 2.5)], "seen": {"best": 0.5}}


def changed(edit: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The content as a right save of the rename a -> x would leave it, and then one thing wrong."""
    right = content()
    model = right["model"]
    renamed = OrderedDict(("x" if key == "a" else key, value) for key, value in model.items())
    renamed._metadata = model._metadata  # type: ignore[attr-defined]
    right["model"] = renamed
    edit(right)
    return right


def test_that_a_right_file_passes_and_the_checks_count_what_was_compared(tmp_path: Path) -> None:
    for legacy in (False, True):
        source, written = tmp_path / f"s{legacy}.pt", tmp_path / f"w{legacy}.pt"
        torch.save(content(), source, _use_new_zipfile_serialization=not legacy)
        saved(source, written, {"a": "x", "c": None})
        checks = check(source, written, {"a": "x", "c": None}).checks
        assert checks[0] == "4 keys, unique and as planned, in the planned order"
        assert checks[1].startswith("3 tensors ")
        assert checks[2].startswith("2 storages,")
        with pytest.raises(SaveError, match="key 0 should be y and is x"):
            check(source, written, {"a": "y", "c": None})


def replace(key: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda right: right["model"].update({key: value})


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a key": (lambda right: right["model"].update(z=right["model"].pop("e")), "key 4 should be e and is z"),
    "a missing key": (lambda right: right["model"].pop("e"), "key 4 should be e and is missing"),
    "a key too many": (replace("f", torch.ones(1)), "key 5 should be missing and is f"),
    "the order": (lambda right: right["model"].move_to_end("b"), "key 1 should be b and is c"),
    "a shape": (replace("c", torch.ones(3, 2)), "c .*3, 2"),
    "a dtype": (replace("c", torch.ones(2, 3).half()), "float16"),
    "a stride": (replace("c", torch.ones(3, 2).t()), "was expected"),
    "requires_grad": (replace("d", nn.Parameter(torch.zeros(4), requires_grad=False)), "was expected"),
    "Parameter to tensor": (replace("d", torch.zeros(4, requires_grad=True)), "was expected"),
    "numbers": (replace("c", torch.ones(2, 3) * 2), "checksum"),
    "sharing": (replace("b", torch.arange(12.0)[6:]), "does not share its storage"),
    "a value": (lambda right: right.update(epoch=4), "epoch"),
    "a value's type": (lambda right: right.update(epoch=3.0), "epoch"),
    "a value in depth": (lambda right: right["args"].__setitem__(1, (1, 2.0)), "args.1.1"),
    "None to False": (replace("e", False), "model.e"),
    "an entry outside": (lambda right: right.pop("seen"), "nothing found"),
    "_metadata": (lambda right: right["model"]._metadata.update(fc={"version": 1}), "metadata are not as planned"),
    "a list to a tuple": (lambda right: right.update(args=tuple(right["args"])), "list became a tuple"),
    "OrderedDict to dict": (lambda right: right.update(seen=OrderedDict(right["seen"])), "Group became a Call"),
    "one object to two": (lambda right: right["args"].append(right["args"][1]), "was expected"),
}


@pytest.mark.parametrize("what", WRONG)
def test_that_one_wrong_thing_is_found(tmp_path: Path, what: str) -> None:
    edit, message = WRONG[what]
    torch.save(content(), tmp_path / "s.pt")
    (tmp_path / "wrong").mkdir()
    torch.save(changed(edit), tmp_path / "wrong" / "s.pt")
    with pytest.raises(SaveError, match=f"(?s)did not verify.*{message}") as caught:
        check(tmp_path / "s.pt", tmp_path / "wrong" / "s.pt", {"a": "x"})
    assert caught.value.code == "not_verified"


def test_that_objects_that_became_two_or_one_are_found(tmp_path: Path) -> None:
    (tmp_path / "wrong").mkdir()
    one: list[int] = [1]
    for before, after in (([one, one], [one, [1]]), ([one, [1]], [one, one])):
        torch.save({"m": {"w": torch.ones(1)}, "lists": before}, tmp_path / "s.pt")
        torch.save({"m": {"w": torch.ones(1)}, "lists": after}, tmp_path / "wrong" / "s.pt")
        with pytest.raises(SaveError, match="became"):
            check(tmp_path / "s.pt", tmp_path / "wrong" / "s.pt", {}, state_dict="m")


def test_that_turned_bytes_missing_records_and_lost_bytes_are_found_in_every_container(tmp_path: Path) -> None:
    torch.save(content(), tmp_path / "s.pt")
    torch.save(content(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file({"a": torch.arange(9.0), "b": torch.ones(3)}, tmp_path / "s.safetensors")
    for name, value in (("s.pt", 1.0), ("old.pt", 1.0), ("s.safetensors", 8.0)):
        data = bytearray((tmp_path / name).read_bytes())
        at = data.rindex(torch.tensor([value]).numpy().tobytes())
        data[at] ^= 1
        (tmp_path / ("wrong." + name)).write_bytes(data)
        assert check(tmp_path / name, tmp_path / name, {}).sha256
        with pytest.raises(SaveError, match=r"the bytes of .* differ"):
            check(tmp_path / name, tmp_path / ("wrong." + name), {})


def test_that_a_byte_in_the_middle_of_a_large_tensor_counts(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(9 << 20, dtype=torch.int8)}, tmp_path / "s.pt")
    for at in (1 << 20, 5 << 20, 9 << 20):
        data = bytearray((tmp_path / "s.pt").read_bytes())
        data[at] ^= 1
        (tmp_path / "wrong.pt").write_bytes(data)
        with pytest.raises(SaveError, match=r"the bytes of .* differ"):
            check(tmp_path / "s.pt", tmp_path / "wrong.pt", {})
