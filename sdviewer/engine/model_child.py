"""The process in which somebody's model is built, on that person's word: `python -P -m sdviewer.engine.model_child`.

It is asked over stdin, as JSON behind its length: first to build a model and tell its keys, then what that says of
files. It answers with a line of JSON over a pipe of its own: what the model's code prints goes to stderr, and it reads
nothing. It ends, with all it started, when whoever asked is gone. Parameters are built on the meta device: they take no
memory, whatever the size of the model.

Facts: torch 2.13 (`torch.device` as a context), transformers 5.23, diffusers 0.42, timm 1.0.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

LONGEST_TEXT = 200_000
"""Characters of an answer's message: torch's words about a whole model of keys."""

SMALL_ENOUGH = 256 << 20
"""Bytes of a model up to which a strict load gives it memory, as its own programs would."""


class NotBuilt(Exception):
    """Why there is no model; `stage` says at what."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage


def main() -> None:
    """Answer until whoever asks is gone."""
    answers = os.dup(1)
    os.dup2(2, 1)
    asked = _questions()
    own = os.getpid()
    built: Built | None = None
    while True:
        question = asked.get()
        try:
            if built is None:
                built = Built(question["what"])
                answer = built.keys()
            else:
                answer = built.load(**question["load"])
        except NotBuilt as error:
            answer = {"stage": error.stage, "message": str(error)}
        except BaseException as error:  # what somebody's code raises, SystemExit too
            traceback.print_exc()
            answer = {"stage": "build", "message": _told(error)}
        if os.getpid() != own:
            os._exit(0)  # the model's code forked, and both came back
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        text = json.dumps(answer).encode() + b"\n"
        while text:
            text = text[os.write(answers, text) :]


def _questions() -> SimpleQueue[dict[str, Any]]:
    """What is asked, as it comes; whoever reads stdin finds nothing in it."""
    asked: SimpleQueue[dict[str, Any]] = SimpleQueue()
    pipe = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def listen() -> None:
        with contextlib.suppress(Exception):
            while True:
                asked.put(json.loads(_exactly(pipe, int.from_bytes(_exactly(pipe, 8), "little"))))
        if sys.platform == "win32":
            os._exit(1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=listen, daemon=True).start()
    return asked


def _exactly(pipe: int, length: int) -> bytes:
    found = b""
    while len(found) < length:
        piece = os.read(pipe, length - len(found))
        if not piece:
            raise EOFError
        found += piece
    return found


class Built:
    """A model, built once.

    Raises:
        NotBuilt: there is none.
    """

    def __init__(self, what: Mapping[str, Any]) -> None:
        try:
            importlib.import_module("torch")
        except Exception as error:
            raise NotBuilt("torch", f"torch cannot be imported: {_told(error)}") from None
        self._make = _maker(what)
        self._model = _on_meta(self._make)
        self._has_memory = False

    def keys(self) -> dict[str, Any]:
        """Keys, shapes and dtypes of its state dict, in order; the positions that are one tensor."""
        import torch
        from torch.nn.parameter import is_lazy

        state = self._model.state_dict(keep_vars=True)
        shapes: list[list[int] | None] = []
        dtypes: list[str] = []
        places: dict[int, list[int]] = {}
        others: list[int] = []
        for position, value in enumerate(state.values()):
            is_tensor = isinstance(value, torch.Tensor)
            if is_tensor:
                places.setdefault(id(value), []).append(position)
            else:
                others.append(position)
            shapes.append([int(size) for size in value.shape] if is_tensor and not is_lazy(value) else None)
            dtypes.append(str(value.dtype).removeprefix("torch.") if is_tensor else "")
        return {
            "model": type(self._model).__qualname__,
            "keys": [str(key) for key in state],
            "shapes": shapes,
            "dtypes": dtypes,
            "ties": [some for some in places.values() if len(some) > 1],
            "not_tensors": others,
        }

    def load(self, path: str, steps: list[str]) -> dict[str, Any]:
        """What `load_state_dict(strict=True)` of it says of a file that sdviewer has written.

        Raises:
            NotBuilt: the file cannot be read, or has no state dict there.
        """
        try:
            state = _state_dict_at(path, steps)
            if path.endswith(".safetensors"):
                state = _with_ties(state, self.keys())
        except NotBuilt:
            raise
        except Exception as error:
            raise NotBuilt("file", _told(error)) from None
        self._has_memory = self._has_memory or self._take_memory()
        try:
            # On the meta device a copy would be none: the tensors of the file take the place of the parameters.
            assign = {} if self._has_memory else {"assign": True}
            said = self._model.load_state_dict(state, strict=True, **assign)
        except Exception as error:  # torch's own words, or what somebody's code raised
            words = str(error) if type(error) is RuntimeError else _told(error)
            return {"ok": False, "message": words[:LONGEST_TEXT]}
        return {"ok": True, "message": str(said)[:LONGEST_TEXT]}

    def _take_memory(self) -> bool:
        """Give its parameters memory, as its own programs would; where they cannot be given any it is built anew."""
        import torch

        tensors = [one for one in self._model.state_dict(keep_vars=True).values() if isinstance(one, torch.Tensor)]
        if sum([one.nbytes for one in tensors if not torch.nn.parameter.is_lazy(one)]) > SMALL_ENOUGH:
            return False
        ways: tuple[Callable[[], Any], ...] = (
            lambda: self._model.to_empty(device="cpu"),
            lambda: _model_in(self._make()),
        )
        for way in ways:
            try:
                self._model = way()
                return True
            except Exception as error:
                sys.stderr.write(f"On the cpu: {_told(error)}\n")
        return False


def _told(error: BaseException) -> str:
    text = str(error).strip()
    return (f"{type(error).__name__}: {text}" if text else type(error).__name__)[:LONGEST_TEXT]


# What is built


def _maker(what: Mapping[str, Any]) -> Callable[[], Any]:
    if "config" in what:
        config = what["config"]
        field, build = next((field, build) for field, build in CONFIGS if isinstance(config.get(field), str))
        return lambda: build(config, config[field])
    sys.path.insert(0, what["folder"])
    try:
        module = _module_of_file(what["file"]) if what.get("file") else importlib.import_module(what["module"])
    except BaseException as error:
        traceback.print_exc()
        raise NotBuilt("import", _told(error)) from None
    found: Any = module
    for name in what["attribute"].split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise NotBuilt("attribute", f"there is no {name} in it") from None
    if not callable(found) or _is_module(found):
        return lambda: found
    arguments, keywords = ast.literal_eval(what["arguments"]), ast.literal_eval(what["keywords"])
    return lambda: found(*arguments, **keywords)


def _module_of_file(file: str) -> Any:
    """A Python file as a module; one in a package by its full name, so that its relative imports work."""
    path = Path(file)
    names, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        names.insert(0, folder.name)
        folder = folder.parent
    if len(names) > 1:
        sys.path.insert(1, str(folder))
        return importlib.import_module(".".join(names))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        lacks = isinstance(error, ModuleNotFoundError) and error.name == name
        said = f"{name} is not installed" if lacks else f"{name} cannot be imported: {_told(error)}"
        raise NotBuilt("library", said) from None


def _of_transformers(config: Mapping[str, Any], model_type: str) -> Any:
    library = _library("transformers")
    known = library.CONFIG_MAPPING
    if model_type not in known:
        custom = "; its code lies beside the config, which is not run" if config.get("auto_map") else ""
        raise NotBuilt("config", f"transformers {library.__version__} has no model_type {model_type!r}{custom}")
    made = known[model_type].from_dict(dict(config))
    names = config.get("architectures") or []
    if not names:
        return library.AutoModel.from_config(made, trust_remote_code=False)
    architecture: Any = getattr(library, str(names[0]), None)
    if not _is_class(architecture, library.PreTrainedModel):
        raise NotBuilt("config", f"transformers {library.__version__} has no model {names[0]!r}")
    return architecture(made)


def _is_class(found: Any, base: Any) -> bool:
    return isinstance(found, type) and issubclass(found, base)


def _of_diffusers(config: Mapping[str, Any], name: str) -> Any:
    library = _library("diffusers")
    found: Any = getattr(library, name, None)
    if not _is_class(found, library.ModelMixin):
        raise NotBuilt("config", f"diffusers {library.__version__} has no model {name!r}")
    return found.from_config(dict(config))


def _of_timm(config: Mapping[str, Any], name: str) -> Any:
    library = _library("timm")
    if not library.is_model(name):
        raise NotBuilt("config", f"timm {library.__version__} has no model {name!r}")
    more = {key: config[key] for key in ("num_classes", "global_pool") if key in config}
    return library.create_model(name, pretrained=False, **more, **config.get("model_args", {}))


CONFIGS: tuple[tuple[str, Callable[[Mapping[str, Any], str], Any]], ...] = (
    ("model_type", _of_transformers),
    ("_class_name", _of_diffusers),
    ("architecture", _of_timm),
)
"""The field by which a config is known, and who builds it; code that a config names is not run."""


def _on_meta(make: Callable[[], Any]) -> Any:
    """The model on the meta device; where its code looks at numbers while it builds, its parameters alone."""
    import torch

    try:
        with torch.device("meta"), _without_random_numbers():
            return _model_in(make())
    except NotBuilt:
        raise
    except Exception as error:
        if not isinstance(error, RuntimeError | NotImplementedError) and "meta" not in str(error):
            raise
        sys.stderr.write(f"On the meta device: {_told(error)}\n")
    with _parameters_on_meta():
        return _model_in(make())


def _without_random_numbers() -> Any:
    """Leave out what fills meta tensors with numbers: the first such call imports a compiler, in 1.2 s."""
    import torch
    from torch.overrides import TorchFunctionMode

    tensor = torch.Tensor
    fills = {tensor.normal_, tensor.uniform_, tensor.log_normal_, tensor.exponential_, tensor.bernoulli_}

    class WithoutRandomNumbers(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function in fills and args and args[0].device.type == "meta":
                return args[0]
            return function(*args, **(kwargs or {}))

    return WithoutRandomNumbers()


@contextlib.contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Every parameter goes to the meta device as it is registered; all else has its numbers."""
    from torch import nn

    before = nn.Module.register_parameter

    def register(module: Any, name: str, parameter: Any) -> None:
        if type(parameter) is nn.Parameter and parameter.device.type != "meta":
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        before(module, name, parameter)

    nn.Module.register_parameter = register
    try:
        yield
    finally:
        nn.Module.register_parameter = before


def _is_module(value: Any) -> bool:
    from torch import nn

    return isinstance(value, nn.Module)


def _model_in(made: Any) -> Any:
    """The module that was made, also where others come with it."""
    if isinstance(made, tuple | list):
        made = next((one for one in made if _is_module(one)), made)
    if _is_module(made):
        return made
    raise NotBuilt("type", f"it gives {type(made).__module__}.{type(made).__qualname__}, no torch.nn.Module")


# What a file holds


def _state_dict_at(path: str, steps: list[str]) -> Any:
    from sdviewer.formats.torch_check import load_tensors

    value = load_tensors(path)
    for step in steps:
        if not isinstance(value, Mapping) or step not in value:
            raise NotBuilt("file", f"there is no state dict at {step!r} in it")
        value = value[step]
    return value


def _with_ties(state: dict[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """With the other names of a tied tensor: its container has one, and its own `load_model` does the same."""
    for tied in model["ties"]:
        names = [model["keys"][position] for position in tied]
        kept = next((name for name in names if name in state), None)
        if kept is not None:
            state = {**dict.fromkeys(names, state[kept]), **state}
    return state


if __name__ == "__main__":
    main()
