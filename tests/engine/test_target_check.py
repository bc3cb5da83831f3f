"""What a save says of its target, asked as the window asks it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    assert any("it fits keys: 7 keys, names and shapes" in check for check in told["checks"])
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
    assert any("1 key missing that may be" in check for check in told["checks"])


def test_that_the_target_is_never_written(document: DocumentWorker, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps(KEYS))
    failure = save(document, keys, {"name": str(keys)}).failure
    assert failure is not None
    assert "the output is an input" in failure["message"]
    assert json.loads(keys.read_text()) == KEYS
