"""What the code text of a TorchScript archive says about its classes; read as text and never run.

A module's pickled state does not tell parameters, buffers and plain tensors apart: the class says it.

    class Net(Module):
      __parameters__ = ["weight", ]
      __buffers__ = ["mean", ]
      weight : Tensor

Facts: the printer of torch 2.13 (`python_print.cpp`), and archives of older versions (docs/formats.md).
"""

from __future__ import annotations

import re
from codecs import escape_decode
from collections.abc import Callable
from dataclasses import dataclass

_CLASS = re.compile(r"^class (\w+)(?:\((\w+)\))?:\n((?:[ \t]+.*\n|\n)*)", re.MULTILINE)
_LIST = re.compile(r'^  __(parameters|buffers)__ = \[((?:"(?:[^"\\\n]|\\.)*", ?)*)\]', re.MULTILINE)
_TEXT = re.compile(r'"((?:[^"\\\n]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class ClassText:
    """What a class says of its attributes; `buffers` is None where it has no such list (before torch 1.7)."""

    is_module: bool
    parameters: frozenset[str]
    buffers: frozenset[str] | None


def classes_of(code: str) -> dict[str, ClassText]:
    """Class name -> what it says, for one file of code."""
    found = {}
    for match in _CLASS.finditer(code if code.endswith("\n") else code + "\n"):
        name, base, body = match.groups()
        lists = {kind: frozenset(map(_unquoted, _TEXT.findall(items))) for kind, items in _LIST.findall(body)}
        found[name] = ClassText(base == "Module", lists.get("parameters", frozenset()), lists.get("buffers"))
    return found


def _unquoted(text: str) -> str:
    try:
        return escape_decode(text.encode("utf-8", "surrogateescape"))[0].decode("utf-8", "surrogateescape")
    except ValueError:
        return text


class Code:
    """The classes of an archive by qualified name, each file read when the first of its classes is asked for.

    `read` gives the text of a member below the archive's folder, None where there is none.
    """

    def __init__(self, read: Callable[[str], str | None]) -> None:
        self._read = read
        self._files: dict[str, dict[str, ClassText]] = {}

    def find(self, module: str, name: str) -> ClassText | None:
        """`__torch__.nets` + "Net": class Net in code/__torch__/nets.py."""
        member = f"code/{module.replace('.', '/')}.py"
        if member not in self._files:
            text = self._read(member)
            self._files[member] = classes_of(text) if text is not None else {}
        return self._files[member].get(name)
