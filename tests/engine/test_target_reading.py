"""What the worker of the target dialog says of a text or a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from sdviewer.core.key_table import KeyTable
from sdviewer.engine.frames import Answer
from sdviewer.engine.packing import packed, unpacked
from sdviewer.engine.target_reading import MOST_KEPT, MOST_SEARCHED, TargetReading
from sdviewer.errors import OpenError
from sdviewer.repair.target import Target

KEYS = {"embed.weight": (5, 4), "head.weight": (3, 4), "head.bias": (3,)}


def error(missing: list[str], unexpected: list[str], more: str = "") -> str:
    def listed(keys: list[str]) -> str:
        return ", ".join(f'"{key}"' for key in keys)

    return (
        "RuntimeError: Error(s) in loading state_dict for Net:\n"
        f"\tMissing key(s) in state_dict: {listed(missing)}. \n"
        f"\tUnexpected key(s) in state_dict: {listed(unexpected)}. {more}"
    )


class Reader:
    """The service, about one file."""

    def __init__(self, path: Path, content: Any) -> None:
        torch.save(content, path)
        self.path = str(path)
        self.service = TargetReading()

    def text(self, said: str) -> Answer:
        params = {"source": self.path, "text": memoryview(said.encode())}
        return self.service.requests["read"](params, lambda done, total: None)

    def file(self, path: Path, **more: Any) -> Answer:
        params = {"source": self.path, "path": str(path), **more}
        return self.service.requests["read"](params, lambda done, total: None)


def tensors(prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + key: torch.zeros(shape) for key, shape in KEYS.items()}


def sentences(body: Mapping[str, Any], kind: str) -> list[str]:
    return [words for one, words in body["sentences"] if one == kind]


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path / "a.pth", {"epoch": 3, "state_dict": tensors("module.")})


def test_that_an_error_about_the_whole_file_suggests_to_unwrap(reader: Reader) -> None:
    body = reader.text(error(list(KEYS), ["epoch", "state_dict"])).body
    assert (body["kind"], body["model"], body["keys"]) == ("message", "Net", 3)
    assert body["counts"] == {"missing": 3, "unexpected": 2, "mismatched": 0}
    assert sentences(body, "spark") == [
        "The 2 unexpected names are the file's top level: the weights sit one step down, in state_dict. Unwrap is "
        "suggested as rule 1."
    ]
    assert sentences(body, "info")[0].startswith("An error names keys but not shapes.")


def test_that_an_error_about_the_state_dict_gives_all_keys_of_the_model(reader: Reader) -> None:
    content = error(
        ["head.bias"], ["module.head.bias"], "\n\tsize mismatch for module.head.weight: copying a param with "
    )
    more = "shape torch.Size([3, 4]) from checkpoint, the shape in current model is torch.Size([9, 4])."
    answer = reader.text(content + more)
    assert answer.body["counts"] == {"missing": 1, "unexpected": 1, "mismatched": 1}
    target = unpacked(Target, answer.buffers["target"])
    assert set(target.table.keys) == {"module.embed.weight", "module.head.weight", "head.bias"}
    assert "Of 1 of 3 keys the shape is not told." in sentences(answer.body, "info")[0]
    assert not sentences(answer.body, "spark")


def test_that_a_cut_text_is_said_to_be_cut_and_not_counted(reader: Reader) -> None:
    body = reader.text(error(list(KEYS), ["epoch"])[:120]).body
    assert body["incomplete"]
    assert any("cut" in words for words in sentences(body, "warn"))


def test_that_a_list_of_keys_is_compared_with_the_file(reader: Reader) -> None:
    body = reader.text("module.embed.weight [5, 4]\nhead.weight [3, 4]\n").body
    assert (body["kind"], body["keys"]) == ("keys", 2)
    assert body["counts"] == {"missing": 1, "unexpected": 2, "mismatched": 0}
    assert body["sentences"] == []


def test_that_a_file_that_fits_already_is_said_to(reader: Reader) -> None:
    listed = "\n".join(f"module.{key} {list(shape)}" for key, shape in KEYS.items())
    assert sentences(reader.text(listed).body, "ok") == ["Nothing to repair: 3 of 3 keys match."]


def test_that_prose_is_no_target(reader: Reader) -> None:
    for said in ("nothing of the kind", "", "   \n"):
        with pytest.raises(OpenError) as caught:
            reader.text(said)
        assert caught.value.code == "bad_target"


def test_that_a_config_is_read_and_not_built(reader: Reader, tmp_path: Path) -> None:
    config = {"model_type": "vit", "architectures": ["ViTModel"], "auto_map": {"AutoModel": "evil.Net"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for answer in (reader.text(json.dumps(config)), reader.file(tmp_path / "config.json")):
        assert (answer.body["kind"], answer.body["model"], answer.body["keys"]) == ("config", "ViTModel", None)
        assert not answer.buffers
        assert any("not run" in words for words in sentences(answer.body, "warn"))


def test_that_the_names_in_a_python_file_are_found_without_running_it(reader: Reader, tmp_path: Path) -> None:
    code = tmp_path / "net.py"
    code.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Net: pass\ndef build(): pass\ndef _own(): pass\n")
    answer = reader.file(code)
    assert (answer.body["kind"], answer.body["names"]) == ("class", [["Net", "class"], ["build", "function"]])
    code.write_text("class Net(:")
    assert reader.file(code).body["names"] == []
    assert not (tmp_path / "ran").exists()


def test_that_one_state_dict_of_several_can_be_meant(reader: Reader, tmp_path: Path) -> None:
    torch.save({"model": tensors(), "model_ema": {"embed.weight": torch.zeros(5, 4)}}, tmp_path / "b.pth")
    first = reader.file(tmp_path / "b.pth").body
    assert (first["kind"], first["keys"]) == ("checkpoint", 3)
    assert [place for place, _, _ in first["state_dicts"]] == ["model", "model_ema"]
    other = reader.file(tmp_path / "b.pth", state_dict="model_ema").body
    assert (other["state_dict"], other["keys"]) == ("model_ema", 1)


def test_that_the_error_at_the_end_of_a_long_log_is_found(reader: Reader) -> None:
    line = "2026-11-26 10:00:00 INFO step 12 loss 0.123\n"
    log = line * (MOST_SEARCHED // len(line) + 1)
    answer = reader.text(log + error(list(KEYS), ["epoch", "state_dict"]) + "\n" + line * 3)
    assert answer.body["counts"] == {"missing": 3, "unexpected": 2, "mismatched": 0}
    assert json.loads(answer.buffers["keys"]) == dict.fromkeys(KEYS)


def test_that_a_short_text_is_kept_as_it_is(reader: Reader) -> None:
    assert "keys" not in reader.text("head.weight [3, 4]").buffers
    padded = "head.weight [3, 4]" + "\n" * MOST_KEPT
    assert json.loads(reader.text(padded).buffers["keys"]) == {"head.weight": [3, 4]}


def test_that_a_model_that_was_built_is_compared_with_the_file(reader: Reader) -> None:
    table = KeyTable(("module.head.bias", "new"), ((3,), (2,)), ("float32", "float32"))
    built = memoryview(packed(Target("class", "net:Net", table, "Net")))
    params = {"source": reader.path, "target": built}
    answer = reader.service.requests["built"](params, lambda done, total: None)
    assert answer.body["counts"] == {"missing": 1, "unexpected": 2, "mismatched": 0}
    assert unpacked(Target, answer.buffers["target"]).table == table


def test_that_names_of_a_hostile_text_are_shown_harmless(reader: Reader) -> None:
    body = reader.text(error(["a\u202eb"], ["epoch"]).replace("Net", "N\u202eet")).body
    assert "\u202e" not in json.dumps(body, ensure_ascii=False)


def test_that_an_adapter_is_not_counted_against_its_model(tmp_path: Path) -> None:
    layer = "base_model.model.head"
    pair = {f"{layer}.lora_A.weight": torch.zeros(2, 4), f"{layer}.lora_B.weight": torch.zeros(3, 2)}
    model, adapter = Reader(tmp_path / "model.pth", tensors()), Reader(tmp_path / "adapter.pth", pair)
    of_adapter, of_model = adapter.file(tmp_path / "model.pth").body, model.file(tmp_path / "adapter.pth").body
    said = "An adapter: its 1 pair changes 1 tensor of {}; nothing of it is a missing key."
    assert sentences(of_adapter, "spark") == [said.format("the target")]
    assert sentences(of_model, "spark") == [said.format("this file")]
    assert of_adapter["counts"] is of_model["counts"] is None
    assert adapter.text("\n".join(KEYS)).body["counts"] is None
