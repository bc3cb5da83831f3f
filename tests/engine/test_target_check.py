"""What a save says of its target, asked as the window asks it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from sdviewer.engine.client import DocumentWorker
from tests.engine.conftest import Answered

STRIP = 'format = "sdviewer-recipe/1"\n[[step]]\nop = "strip"\nprefix = "module."\n'
KEYS = {f"blocks.{n}.{part}": [4, 2] for n in range(3) for part in ("a", "b")} | {"head": [3]}


def save(document: DocumentWorker, out: Path, target: Mapping[str, Any] | None, recipe: str = STRIP) -> Answered:
    """A copy that has to fit `target`."""
    opened, answer = Answered(), Answered()
    document.open(opened.done, opened.failed)
    body = opened.wait().body
    assert body is not None
    document.save(recipe, str(out), body["info"]["identity"], answer.done, answer.failed, target=target)
    return answer.wait()


def receipt(answer: Answered) -> Mapping[str, Any]:
    assert answer.body is not None, answer.failure
    found: Mapping[str, Any] = answer.body["receipt"]
    return found


def test_that_the_receipt_says_that_the_copy_fits(document: DocumentWorker, tmp_path: Path) -> None:
    told = receipt(save(document, tmp_path / "copy.safetensors", {"name": "", "text": json.dumps(KEYS)}))
    assert told["verified"]["target"] is True
    assert told["checks"][0] == "it has the 7 keys of the key list and no other, with the right shapes"
    untold = receipt(save(document, tmp_path / "other.safetensors", None))
    assert untold["verified"]["target"] is None


def test_that_a_copy_that_does_not_fit_is_kept_and_says_why(document: DocumentWorker, tmp_path: Path) -> None:
    out = tmp_path / "copy.safetensors"
    wanted = {**KEYS, "head": [5], "more": [1]}
    told = receipt(save(document, out, {"name": "", "text": json.dumps(wanted)}))
    assert out.exists()
    assert told["verified"]["target"] is False
    (warning,) = [one for one in told["warnings"] if one["code"] == "target_not_met"]
    assert warning["keys"] == ["more", "head"]
    assert '1 missing ("more"); 1 of another shape ("head")' in warning["message"]


def test_that_a_recipe_brings_its_list_along(document: DocumentWorker, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(json.dumps({**KEYS, "more": None}))
    named = f"{STRIP}[target]\nkeys = {json.dumps(str(tmp_path / 'keys.json'))}\n"
    assert receipt(save(document, tmp_path / "a.safetensors", None, named))["verified"]["target"] is False
    told = receipt(save(document, tmp_path / "b.safetensors", None, f'{named}allow_missing = ["more"]\n'))
    assert told["verified"]["target"] is True
    assert told["checks"][0].startswith("it has 7 of the 8 keys of keys.json and no other")
    assert told["notes"][-1].startswith("1 key of keys.json is not in it and keeps what the model begins with, as the")


def test_that_the_target_is_never_written(document: DocumentWorker, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps(KEYS))
    failure = save(document, keys, {"name": str(keys)}).failure
    assert failure is not None
    assert "the output is an input" in failure["message"]
    assert json.loads(keys.read_text()) == KEYS


MISSING = ", ".join(f'"{key}"' for key in KEYS)
UNEXPECTED = ", ".join(f'"module.{key}"' for key in KEYS)
ERROR = f"Error(s) in loading state_dict for Net:\n\tMissing key(s) in state_dict: {MISSING}.\n"
NAMELESS = (
    "The model and loaded state dict do not match exactly\n\n"
    f"unexpected key in source state_dict: {', '.join(f'module.{key}' for key in KEYS)}\n\n"
    f"missing keys in source state_dict: {', '.join(KEYS)}\n"
)
WHOLE = f"{ERROR}\tUnexpected key(s) in state_dict: {UNEXPECTED}."


def test_that_each_kind_of_target_is_called_what_people_call_it(document: DocumentWorker, tmp_path: Path) -> None:
    (tmp_path / "error.txt").write_text(WHOLE)
    (tmp_path / "lines.txt").write_text("\n".join(KEYS))
    save_file({key: np.zeros(shape, "f4") for key, shape in KEYS.items()}, tmp_path / "other.safetensors")
    (tmp_path / "net.py").write_text(
        "import torch\n\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.blocks = torch.nn.ModuleList(torch.nn.Module() for _ in range(3))\n"
        "        for block in self.blocks:\n            block.a = torch.nn.Parameter(torch.zeros(4, 2))\n"
        "            block.b = torch.nn.Parameter(torch.zeros(4, 2))\n"
        "        self.head = torch.nn.Parameter(torch.zeros(3))\n"
    )
    unknown = "by name: the shapes are not known"
    for target, name, shapes in (
        ({"name": "", "text": WHOLE}, "Net (the load error)", unknown),
        ({"name": "", "text": NAMELESS}, "the model of the load error", unknown),
        ({"name": "error.txt"}, "Net (error.txt)", unknown),
        ({"name": "lines.txt"}, "lines.txt", unknown),
        ({"name": "other.safetensors"}, "other.safetensors", "with the right shapes"),
        ({"name": "net.py:Net", "run": True}, "net.py:Net", "with the right shapes"),
    ):
        found = {**target, "name": target["name"] and str(tmp_path / str(target["name"]))}
        told = receipt(save(document, tmp_path / f"{len(name)}.pt", found))
        assert told["checks"][0] == f"it has the 7 keys of {name} and no other, {shapes}"
        loaded = [check for check in told["checks"] if "strict=True" in check]
        words = f"it was loaded into {name} with load_state_dict(strict=True): <All keys matched successfully>"
        assert loaded == ([words] if "run" in target else [])


def test_that_an_error_that_was_cut_proves_nothing(document: DocumentWorker, tmp_path: Path) -> None:
    cut = WHOLE[: WHOLE.index('"module.blocks.2.a"')]
    told = receipt(save(document, tmp_path / "copy.pt", {"name": "", "text": cut}))
    said = [*told["checks"], *[one["message"] for one in told["warnings"]]]
    assert any("Net (the load error)" in one and "the text does not name all keys of the model" in one for one in said)


def test_that_keys_that_are_left_to_the_model_are_counted(document: DocumentWorker, tmp_path: Path) -> None:
    def left(wanted: Mapping[str, Any]) -> int:
        answer = save(document, tmp_path / f"{len(str(wanted))}.pt", {"name": "", "text": json.dumps(wanted)})
        assert answer.body is not None
        return int(answer.body["left"])

    assert left(KEYS) == 0
    assert left({**KEYS, "more": [1], "bias": [2]}) == 2
    assert left({**KEYS, "more": [1], "head": [2]}) == 0
