"""Lines of code that load a saved copy, for each container."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from sdviewer.gui.jobs import Body


class Snippet(NamedTuple):
    """One way to load it: a word for the button, and the code."""

    title: str
    code: str


def snippets(receipt: Body, place: list[str | int] | None, *, mappable: bool, left: int = 0) -> list[Snippet]:
    """The ways to load a written file; `place` leads to its state dict, None where none can be named.

    `mappable`: torch can map its records into memory as they are; `left`: keys that the model keeps as it begins with.
    """
    # repr escapes whatever would not be printable in a file's name.
    name = repr(Path(str(receipt["output"])).name)
    ways = _WAYS[str(receipt["container"])](name, receipt, place, mappable)
    if not left:
        return ways
    keep = "1 key keeps" if left == 1 else f"{left:,} keys keep"
    loose = f"model.load_state_dict(sd, strict=False)  # {keep} what the model begins with"
    return [way._replace(code=way.code.replace("model.load_state_dict(sd)", loose)) for way in ways]


def _torch(name: str, receipt: Body, place: list[str | int] | None, mappable: bool) -> list[Snippet]:
    steps = "".join(f"[{step!r}]" for step in place or ())
    refused = (receipt.get("verified") or {}).get("weights_only") is False
    note = "# torch refuses it as it is: save a clean copy, or allow its classes\n# (torch.serialization)\n"
    ways = []
    for title, how in (("torch.load", ""), ("mapped", "mmap=True, "))[: 2 if mappable else 1]:
        load = f"sd = torch.load({name}, map_location='cpu', {how}weights_only=True){steps}\n"
        use = "model.load_state_dict(sd)" if place is not None else ""
        ways.append(Snippet(title, f"import torch\n\n{note if refused else ''}{load}{use}".rstrip()))
    return ways


def _safetensors(name: str, receipt: Body, place: object, mappable: bool) -> list[Snippet]:
    aliases = (
        "    # what is tied is noted as an alias in the metadata\n"
        "    sd |= {key: sd[kept] for key, kept in file.metadata().items() if kept in sd and key not in sd}\n"
    )
    whole = (
        "from safetensors import safe_open\n\n"
        f"with safe_open({name}, 'pt') as file:\n"
        "    sd = {key: file.get_tensor(key) for key in file.keys()}\n"
        f"{aliases}model.load_state_dict(sd)"
    )
    simple = f"from safetensors.torch import load_file\n\nsd = load_file({name})\nmodel.load_state_dict(sd)"
    one = (
        "from safetensors import safe_open\n\n"
        f"with safe_open({name}, 'pt') as file:  # mapped: only what is taken is read\n"
        "    for key in file.keys():\n"
        "        print(key, file.get_slice(key).get_shape())"
    )
    return [Snippet("load_file", whole if _has_aliases(receipt) else simple), Snippet("one by one", one)]


def _sharded(name: str, receipt: Body, place: object, mappable: bool) -> list[Snippet]:
    aliases = (
        "    with safe_open(folder / shard, 'pt') as file:  # what is tied is noted as an alias\n"
        "        notes = file.metadata() or {}\n"
        "    sd |= {key: sd[kept] for key, kept in notes.items() if kept in sd and key not in sd}\n"
    )
    tied = _has_aliases(receipt)
    code = (
        "import json\nfrom pathlib import Path\n\n"
        f"{'from safetensors import safe_open' + chr(10) if tied else ''}"
        "from safetensors.torch import load_file\n\n"
        f"folder = Path({name})\n"
        "index = json.loads((folder / 'model.safetensors.index.json').read_text())\n"
        "sd = {}\n"
        "for shard in sorted(set(index['weight_map'].values())):\n"
        "    sd |= load_file(folder / shard)\n"
        f"{aliases if tied else ''}model.load_state_dict(sd)"
    )
    return [Snippet("safetensors", code)]


def _npz(name: str, receipt: Body, place: object, mappable: bool) -> list[Snippet]:
    untyped = any("bytes without a type" in str(warning["message"]) for warning in receipt.get("warnings") or ())
    note = "# bfloat16 comes as bytes: torch.from_numpy(arrays[key].view('<i2')).view(torch.bfloat16)\n"
    load = f"arrays = numpy.load({name})\nsd = {{key: torch.from_numpy(arrays[key]) for key in arrays.files}}"
    code = f"import numpy\nimport torch\n\n{note if untyped else ''}{load}\nmodel.load_state_dict(sd)"
    return [Snippet("torch", code), Snippet("NumPy", f"import numpy\n\narrays = numpy.load({name})")]


def _onnx(name: str, receipt: Body, place: object, mappable: bool) -> list[Snippet]:
    code = (
        "import onnx\nfrom onnx.numpy_helper import to_array\n\n"
        f"graph = onnx.load({name}).graph\n"
        "arrays = {tensor.name: to_array(tensor) for tensor in graph.initializer}"
    )
    return [Snippet("onnx", code)]


def _torchscript(name: str, receipt: Body, place: object, mappable: bool) -> list[Snippet]:
    quoted = json.dumps(Path(str(receipt["output"])).name)
    cpp = (
        "#include <torch/script.h>\n\n"
        f"auto module = torch::jit::load({quoted}, torch::kCPU);\n"
        "for (const auto& parameter : module.named_parameters())\n"
        '    std::cout << parameter.name << " " << parameter.value.sizes() << std::endl;'
    )
    python = f"import torch\n\nsd = torch.jit.load({name}, map_location='cpu').state_dict()"
    return [Snippet("C++", cpp), Snippet("Python", python)]


def _has_aliases(receipt: Body) -> bool:
    return any("aliases in __metadata__" in str(note) for note in receipt.get("notes") or ())


_WAYS: Final[Mapping[str, Callable[[str, Body, list[str | int] | None, bool], list[Snippet]]]] = {
    "torch-zip": _torch,
    "torch-legacy": _torch,
    "safetensors": _safetensors,
    "hf-index": _sharded,
    "npz": _npz,
    "onnx": _onnx,
    "torchscript": _torchscript,
}
"""How each container is loaded: a new one is one line here."""
