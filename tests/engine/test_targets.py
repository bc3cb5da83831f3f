"""What somebody names or pastes as the target of a fit; models are built in their own process, or not at all."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sdviewer.core.key_table import KeyTable
from sdviewer.engine import model_child
from sdviewer.engine.model_names import model_of_name
from sdviewer.engine.models import Model, ModelFailed
from sdviewer.engine.targets import (
    head_dim_of,
    kind_of_target,
    kind_of_text,
    read_target,
    target_of_text,
)
from sdviewer.errors import Cancelled, OpenError, SDViewerError, UsageError

NOTHING = KeyTable((), (), ())

MODELS = """
    import os, subprocess, sys
    import torch
    from torch import nn
    from beside import WIDTH

    print("printed while imported")

    class Net(nn.Module):
        def __init__(self, width=WIDTH, depth=1):
            super().__init__()
            self.embed = nn.Embedding(10, width)
            self.blocks = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
            self.head = nn.Linear(width, 10, bias=False)
            self.head.weight = self.embed.weight
            self.norm = nn.BatchNorm1d(width)

    class Outer:
        @staticmethod
        def make():
            return nn.Linear(1, 2)

    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"a": 1}

    there = nn.Linear(2, 1)

    def rates(depth=3):
        return nn.Sequential(*[nn.Linear(2, 2) for rate in torch.linspace(0, 1, depth) if rate.item() >= 0])

    def huge():
        return nn.Linear(1_000_000, 1_000_000)

    def looks():
        linear = nn.Linear(2, 2)
        return linear if linear.weight.detach().sum().item() else None

    def pair():
        return "a name", nn.Linear(3, 3)

    def lazy():
        return nn.LazyLinear(3)

    def number():
        return 5

    def fails():
        raise ValueError("no \\x1b[31mway")

    def loud():
        with open(__file__ + ".read", "w") as file:
            file.write(repr(sys.stdin.read()))
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        with open(__file__ + ".pid", "w") as file:
            file.write(str(child.pid))
        os.write(1, b'{"keys": ["forged"], "shapes": [[1]]}\\n')
        sys.stderr.write("y" * 300_000 + "the end\\x1b[0m")
        return Net()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models_of_a_test.py").write_text(textwrap.dedent(MODELS))
    (tmp_path / "beside.py").write_text("WIDTH = 4\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What building a model here leaves behind goes away."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("models_of_a_test", "beside", "package_of_a_test"):
            del sys.modules[name]


def built(name: str, arguments: str = "") -> dict[str, Any]:
    """The answer of the child, asked here."""
    what = model_of_name(name, arguments)
    assert what is not None
    return model_child.Built(what).keys()


def told(error: pytest.ExceptionInfo[SDViewerError]) -> str:
    assert error.value.path
    return error.value.code


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


# What is read


def test_that_a_file_is_told_by_its_content_and_never_by_its_name(folder: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(2)}, "epoch": 1}, "keys.json")
    checkpoint = read_target("keys.json", source=NOTHING)
    assert (checkpoint.kind, checkpoint.name, checkpoint.table.keys) == ("checkpoint", "keys.json · state_dict", ("a",))
    keys = read_target(write(folder / "model.pt", '{"b": [2, 3], "a": null}'), source=NOTHING)
    assert (keys.kind, keys.name, keys.table.keys) == ("keys", "model.pt", ("b", "a"))
    lines = read_target(write(folder / "model.safetensors", "conv1.weight (3, 4)\ncls_token\n"), source=NOTHING)
    assert (lines.kind, lines.table.shapes) == ("keys", ((3, 4), None))
    message = write(
        folder / "log", 'x Error(s) in loading state_dict for Net:\n\tMissing key(s) in state_dict: "a". \n'
    )
    read = read_target(message, source=NOTHING)
    assert (read.kind, read.name, read.model, read.table.keys) == ("message", "log", "Net", ("a",))


def test_that_a_list_of_keys_which_begins_like_a_pickle_is_a_list(folder: Path) -> None:
    assert read_target(write(folder / "keys", "cls_token\nNorm.weight\n"), source=NOTHING).kind == "keys"


def test_that_the_state_dict_of_a_checkpoint_is_named_where_there_are_several(folder: Path) -> None:
    torch.save({"model": {"a": torch.zeros(2)}, "model_ema": {"b": torch.zeros(2)}}, "x.pt")
    assert read_target("x.pt", source=NOTHING, state_dict="model_ema").table.keys == ("b",)
    torch.save({"one": {"a": torch.zeros(2)}, "two": {"b": torch.zeros(2)}}, "y.pt")
    with pytest.raises(UsageError) as error:
        read_target("y.pt", source=NOTHING)
    assert told(error) == "state_dict"


def test_that_what_is_no_target_is_told(folder: Path) -> None:
    (folder / "picture").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(50))
    for name, code in {
        "picture": "unknown_format",
        write(folder / "prose", "this is a letter\nto nobody"): "bad_target",
        write(folder / "list", '{"a": 1}'): "bad_target",
        write(folder / "empty", ""): "bad_target",
        "nowhere.pt": "not_found",
        "nowhere.py:Net": "not_found",
        "C:\\nowhere.pt": "not_found",
        "bad\0name": "not_found",
    }.items():
        with pytest.raises(OpenError) as error:
            read_target(name, source=NOTHING, run=True)
        assert told(error) == code, name


def test_that_a_text_too_long_for_a_target_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdviewer.engine.targets.MOST_BYTES", 20)
    with pytest.raises(OpenError) as error:
        read_target(write(folder / "keys", "a.weight\n" * 5), source=NOTHING)
    assert told(error) == "too_large"


def test_that_nothing_is_run_unasked(folder: Path) -> None:
    marker = folder / "ran"
    write(folder / "evil_of_a_test.py", f"open({str(marker)!r}, 'w')\n")
    config = '{"model_type": "bert"}'
    for name in ("evil_of_a_test.py:Net", "evil_of_a_test:Net", write(folder / "config.json", config)):
        with pytest.raises(UsageError) as error:
            read_target(name, source=NOTHING)
        assert told(error) == "run_needed"
        assert kind_of_target(name) in ("class", "config")
    with pytest.raises(UsageError):
        target_of_text(config, source=NOTHING)
    assert kind_of_text(config) == "config"
    # A Python file is a text like any other, and no list of keys.
    with pytest.raises(OpenError, match=r"evil_of_a_test\.py:Net"):
        read_target("evil_of_a_test.py", source=NOTHING, run=True)
    assert not marker.exists()
    assert "evil_of_a_test" not in sys.modules


def test_that_a_folder_with_a_config_and_no_weights_is_its_config(folder: Path) -> None:
    (folder / "repository").mkdir()
    write(folder / "repository" / "config.json", '{"model_type": "bert"}')
    assert kind_of_target("repository") == "config"
    torch.save({"a": torch.zeros(2)}, folder / "repository" / "pytorch_model.bin")
    assert kind_of_target("repository") == "checkpoint"


# How a model is named


def test_that_arguments_are_read_and_never_run() -> None:
    def of(name: str, arguments: str = "") -> tuple[str, str]:
        what = model_of_name(name, arguments)
        assert what is not None
        return what["arguments"], what["keywords"]

    assert of("m:Net") == ("[]", "{}")
    assert of("m:Net(3, patch=(2, 2), deep=True)") == ("[3]", "{'patch': (2, 2), 'deep': True}")
    assert of("m:Net", '{"depth": 3, "act": null}') == ("[]", "{'depth': 3, 'act': None}")
    assert of("m:Net", "depth=3 name=small\npatch=(1,2)") == ("[]", "{'depth': 3, 'name': 'small', 'patch': (1, 2)}")
    assert of("m:Net", "deep=true") == ("[]", "{'deep': True}")
    for bad in ("x + 1, 2", "**{}", "__import__('os').getpid()", "a=[", "(" * 100_000, "=", "[" * 5000):
        with pytest.raises(UsageError) as error:
            of("m:Net", bad)
        assert error.value.code == "bad_arguments"


def test_that_what_is_no_name_of_a_model_is_none() -> None:
    for name in ("model.pt", "a:b:c", "m:", ":Net", "m: Net", "m:Net-2", "https://host/x:y", "m:Net(", "m.:N"):
        assert model_of_name(name) is None, name


# What is built, asked here


@pytest.mark.usefixtures("alone")
def test_that_a_model_gives_its_keys_shapes_dtypes_and_ties(folder: Path) -> None:
    answer = built("models_of_a_test.py:Net(depth=2)", "width=3")
    assert answer["model"] == "Net"
    assert answer["keys"][:3] == ["embed.weight", "blocks.0.weight", "blocks.0.bias"]
    assert answer["shapes"][:3] == [[10, 3], [3, 3], [3]]
    assert answer["dtypes"][-1] == "int64"
    assert [[answer["keys"][at] for at in tie] for tie in answer["ties"]] == [["embed.weight", "head.weight"]]
    assert built("models_of_a_test:Net")["shapes"][0] == [10, 4]


@pytest.mark.usefixtures("alone")
def test_that_all_kinds_of_factories_are_understood(folder: Path) -> None:
    assert built("models_of_a_test:Outer.make")["shapes"] == [[2, 1], [2]]
    assert built("models_of_a_test:there")["shapes"] == [[1, 2], [1]]
    assert built("models_of_a_test:pair")["shapes"] == [[3, 3], [3]]
    extra = built("models_of_a_test:Extra(1, 1)")
    assert [extra["keys"][at] for at in extra["not_tensors"]] == ["_extra_state"]
    assert built("models_of_a_test:lazy")["shapes"] == [None, None]
    package = folder / "package_of_a_test"
    package.mkdir()
    write(package / "__init__.py", "")
    write(package / "parts.py", "from torch import nn\n\nclass Part(nn.Linear):\n    pass\n")
    write(package / "whole.py", "from .parts import Part\n")
    assert built("package_of_a_test/whole.py:Part(2, 1)")["shapes"] == [[1, 2], [1]]


@pytest.mark.usefixtures("alone")
def test_that_a_model_of_any_size_takes_no_memory(folder: Path) -> None:
    assert built("models_of_a_test:huge")["shapes"] == [[1_000_000, 1_000_000], [1_000_000]]


@pytest.mark.usefixtures("alone")
def test_that_a_model_which_looks_at_numbers_while_it_is_built_has_its_parameters_on_meta(folder: Path) -> None:
    register = nn.Module.register_parameter
    assert len(built("models_of_a_test:rates(4)")["keys"]) == 8
    with pytest.raises(RuntimeError, match="meta"):
        built("models_of_a_test:looks")
    assert nn.Module.register_parameter is register


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("models_of_a_test:number", "type"),
        ("models_of_a_test:Nowhere", "attribute"),
        ("nowhere_of_a_test:Net", "import"),
        ("models_of_a_test.py:Net.nowhere", "attribute"),
    ],
)
def test_that_it_is_said_at_what_a_model_failed(name: str, stage: str, folder: Path) -> None:
    with pytest.raises(model_child.NotBuilt) as error:
        built(name)
    assert error.value.stage == stage


@pytest.mark.usefixtures("alone")
def test_that_a_config_is_built_by_its_library_and_its_own_code_is_not_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Model(nn.Linear):
        def __init__(self, config: Mapping[str, Any]) -> None:
            super().__init__(config["hidden"], 1)

    class Config:
        @staticmethod
        def from_dict(config: dict[str, Any]) -> dict[str, Any]:
            return config

    class Library:
        __version__ = "5"
        CONFIG_MAPPING: Mapping[str, Any] = {"tiny": Config}
        PreTrainedModel = nn.Module
        TinyModel = Model
        NotModel = print

    monkeypatch.setitem(sys.modules, "transformers", Library)  # type: ignore[arg-type]

    def ask(**config: Any) -> dict[str, Any]:
        return model_child.Built({"config": config}).keys()

    assert ask(model_type="tiny", architectures=["TinyModel"], hidden=3)["shapes"] == [[1, 3], [1]]
    for config, words in (
        ({"model_type": "other", "auto_map": {"AutoModel": "code.Model"}}, "not run"),
        ({"model_type": "tiny", "architectures": ["NotModel"]}, "NotModel"),
        ({"model_type": "tiny", "architectures": ["os.system"]}, "os.system"),
    ):
        with pytest.raises(model_child.NotBuilt, match=words) as error:
            ask(**config)
        assert error.value.stage == "config"
    monkeypatch.setitem(sys.modules, "transformers", None)  # type: ignore[arg-type]
    with pytest.raises(model_child.NotBuilt) as error:
        ask(model_type="tiny")
    assert error.value.stage == "library"


# In its process


def test_that_a_loud_model_is_heard_and_ends_with_all_that_it_started(folder: Path) -> None:
    target = read_target("models_of_a_test.py:loud", source=NOTHING, run=True)
    assert (target.kind, target.model, target.table.keys[0]) == ("class", "Net", "embed.weight")
    assert target.table.ties
    assert (folder / "models_of_a_test.py.read").read_text() == "''"
    assert not is_alive(int((folder / "models_of_a_test.py.pid").read_text()))
    assert not (folder / "__pycache__").exists()


def is_alive(pid: int) -> bool:
    """Whether a process still does something: one that was killed may wait for its parent to notice."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def test_that_a_model_that_fails_tells_why_and_what_its_code_printed(folder: Path) -> None:
    with pytest.raises(ModelFailed) as error:
        read_target("models_of_a_test.py:fails", source=NOTHING, run=True)
    assert told(error) == "model_failed"
    assert "ValueError: no" in error.value.message
    assert "printed while imported" in error.value.details
    assert "\x1b" not in error.value.details + str(error.value)
    assert error.value.exit_code == 3


def test_that_a_model_that_takes_too_long_is_ended(folder: Path) -> None:
    with pytest.raises(ModelFailed) as error:
        read_target("models_of_a_test.py:Net", source=NOTHING, run=True, timeout=0.0)
    assert told(error) == "model_timeout"


def test_that_building_a_model_can_be_cancelled(folder: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        read_target("models_of_a_test.py:Net", source=NOTHING, run=True, progress=stop)


def test_that_a_real_model_says_of_a_written_file_whether_it_loads(folder: Path) -> None:
    state = {"a.weight": torch.zeros(1, 2), "a.bias": torch.zeros(1)}
    torch.save({"inner": state}, "wrapped.pt")
    write(
        folder / "small_of_a_test.py",
        "from torch import nn\n\ndef make():\n    open('built', 'a').write('once ')\n"
        "    return nn.ModuleDict({'a': nn.Linear(2, 1)})\n",
    )
    models: list[Model] = []
    read_target("small_of_a_test.py:make", source=NOTHING, run=True, built=models.append)
    with closing(models[0]) as model:
        found = model.load("wrapped.pt", ["inner"])
        assert (found.ok, found.message) == (True, "<All keys matched successfully>")
        assert model.load("wrapped.pt", ["nowhere"]) == (None, "there is no state dict at 'nowhere' in it")
        assert model.load("wrapped.pt", ["inner"]).ok is True
    found = model.load("wrapped.pt", ["inner"])
    assert found.ok is False
    assert (folder / "built").read_text() == "once "


def test_that_a_model_that_forks_answers_once_and_one_that_leaves_while_it_loads_does_not_load(folder: Path) -> None:
    torch.save({"weight": torch.zeros(1, 2), "bias": torch.zeros(1)}, "linear.pt")
    write(
        folder / "odd_of_a_test.py",
        "import os, sys\nfrom torch import nn\n\nclass Leaves(nn.Linear):\n"
        "    def load_state_dict(self, *given, **how):\n        sys.exit(7)\n\n"
        "def make():\n    os.fork()\n    return nn.Linear(2, 1)\n",
    )
    models: list[Model] = []
    for name in ("make", "Leaves(2, 1)"):
        read_target(f"odd_of_a_test.py:{name}", source=NOTHING, run=True, built=models.append)
    with closing(models[0]) as forks, closing(models[1]) as leaves:
        assert forks.load("linear.pt", []) == (True, "<All keys matched successfully>")
        assert leaves.load("linear.pt", []) == (False, "SystemExit: 7")


@pytest.mark.usefixtures("alone")
def test_that_a_strict_load_speaks_in_the_words_of_torch(folder: Path) -> None:
    from safetensors.torch import save_file

    def load(name: str, path: str, *steps: str) -> dict[str, Any]:
        return model_child.Built(model_of_name(name) or {}).load(path, list(steps))

    torch.save({"weight": torch.zeros(3, 1), "more": torch.zeros(1)}, "no.pt")
    answer = load("models_of_a_test:Outer.make", "no.pt")
    assert answer["ok"] is False
    assert 'Missing key(s) in state_dict: "bias"' in answer["message"]
    assert 'Unexpected key(s) in state_dict: "more"' in answer["message"]
    assert "size mismatch for weight" in answer["message"]
    net = built("models_of_a_test:Net")
    shapes = dict(zip(net["keys"], net["shapes"], strict=True))
    save_file({key: torch.zeros(shape) for key, shape in shapes.items() if key != "head.weight"}, "tied.safetensors")
    assert load("models_of_a_test:Net", "tied.safetensors")["ok"] is True
    with pytest.raises(model_child.NotBuilt, match="state dict"):
        load("models_of_a_test:Net", "no.pt", "nowhere")


@pytest.mark.usefixtures("alone")
def test_that_a_large_model_loads_without_a_copy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_child, "SMALL_ENOUGH", 0)
    torch.save({"weight": torch.zeros(2, 1), "bias": torch.zeros(2)}, "yes.pt")
    model = model_child.Built(model_of_name("models_of_a_test:Outer.make") or {})
    assert model.load("yes.pt", [])["ok"] is True
    torch.save({"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}, "no.pt")
    answer = model.load("no.pt", [])
    assert answer["ok"] is False
    assert "size mismatch for weight" in answer["message"]


def test_that_a_config_says_the_size_of_a_head() -> None:
    llama = {"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32}
    assert head_dim_of(llama) == 128
    assert head_dim_of({**llama, "head_dim": 64}) == 64
    assert head_dim_of({**llama, "num_attention_heads": 30}) == 0
    assert head_dim_of({**llama, "hidden_size": "4096"}) == 0
    assert head_dim_of({}) == 0
