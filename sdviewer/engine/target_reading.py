"""What the worker of the target dialog answers: what a pasted text or a file says of the model that a file has to fit.

Law: nothing is run here. A class is only named, and of a config only its fields are read; who builds them is another
process (`engine.building`), on the user's word, and what that found comes back here to be compared with the file.

    read      {"source": path} and the buffer "text" (UTF-8), or {"source", "path", "state_dict"?: dotted} -> READ;
              buffers "target" (a packed Target) where its keys are known, and "keys": they as a text, where
              the one that was pasted is too long to be kept
    built     {"source", "name"}, buffer "target" -> READ, of a model that was built

    READ      {"kind", "name", "model", "keys": n | null, "incomplete", "counts": {"missing", "unexpected",
              "mismatched"} | null, "sentences": [[kind, text]] with the kinds "spark", "ok", "info", "warn",
              "state_dicts": [[dotted, role, tensors]] of a checkpoint, "state_dict": the one that is meant | null,
              "field": of a config, what it is known by, "builds": whether what builds it is there, "names": of a Python
              file, what of it could be built}

Failures arrive as those of a document.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from sdviewer.core import text
from sdviewer.core.key_table import KeyTable, key_table_of_checkpoint
from sdviewer.core.paths import dotted
from sdviewer.core.progress import Progress
from sdviewer.engine.frames import Answer
from sdviewer.engine.packing import packed, unpacked
from sdviewer.engine.targets import MOST_BYTES, config_in, target_of_checkpoint, target_of_text, text_of
from sdviewer.errors import OpenError
from sdviewer.formats import open_checkpoint
from sdviewer.repair.adapters import adapter_in
from sdviewer.repair.key_check import check_keys
from sdviewer.repair.key_lists import is_json, read_json
from sdviewer.repair.messages import read_message
from sdviewer.repair.messages.as_target import SHAPES_UNSAID, UNWRAP, target_of_message
from sdviewer.repair.messages.load_message import LoadMessage
from sdviewer.repair.state_dicts import likely_state_dict
from sdviewer.repair.target import Target

MOST_KEPT: Final = 1 << 20
"""Bytes of a pasted text that the window keeps as it is; of a longer one it keeps the keys."""
MOST_SEARCHED: Final = 8 << 20
"""Bytes of a text from which on only the part around its last load message is read: it is somebody's whole log."""
BEFORE_MESSAGE: Final = 64 << 10
MESSAGE_SIGNS: Final = (b"Error(s) in loading", b"Missing key(s) in state_dict", b"Unexpected key(s) in state_dict")
MOST_CODE: Final = 4 << 20
"""Bytes of a Python file in which names are looked for."""
MOST_NAMES: Final = 200
LIBRARIES: Final = {"model_type": "transformers", "_class_name": "diffusers", "architecture": "timm"}
"""Who builds a config, by the field that it is known by (`engine.model_child.CONFIGS`)."""

Params = Mapping[str, Any]


class TargetReading:
    """The service. It keeps the keys of the file that is to fit, so that typing does not open it again."""

    def __init__(self) -> None:
        self._path = ""
        self._source = KeyTable((), (), ())
        self._place = ""
        self.requests: Mapping[str, Callable[[Params, Progress], Answer]] = {"read": self.read, "built": self.built}

    def read(self, params: Params, progress: Progress) -> Answer:
        """What a text or a file says."""
        self._open(params["source"], progress)
        if "path" in params:
            return self._at(params["path"], params.get("state_dict"), progress)
        raw = bytes(params["text"])
        return self._of_text(_searched(raw).decode("utf-8", "replace"), "", keep=len(raw) <= MOST_KEPT)

    def built(self, params: Params, progress: Progress) -> Answer:
        """How a model that was built stands to the file."""
        self._open(params["source"], progress)
        return self._known(unpacked(Target, params["target"]), [])

    def _open(self, path: str, progress: Progress) -> None:
        if path == self._path:
            return
        checkpoint = open_checkpoint(path, progress=progress)
        at = likely_state_dict(checkpoint)
        self._source = key_table_of_checkpoint(checkpoint, at)
        self._place = dotted(checkpoint.state_dicts[at].path)
        self._path = path

    # What is there

    def _at(self, path: str, wanted: str | None, progress: Progress) -> Answer:
        if path.lower().endswith(".py"):
            return _answer("class", path, sentences=[], names=_names_in(path))
        said = text_of(path, progress)
        if said is not None:
            return self._of_text(said, path, keep=True)
        checkpoint = open_checkpoint(path, progress=progress)
        places = [dotted(one.path) for one in checkpoint.state_dicts]
        at = places.index(wanted) if wanted in places else likely_state_dict(checkpoint)
        told = [[place, one.role, one.tensors] for place, one in zip(places, checkpoint.state_dicts, strict=True)]
        target = target_of_checkpoint(checkpoint, at, path)
        return self._known(target, [], state_dicts=told, state_dict=places[at])

    def _of_text(self, said: str, path: str, *, keep: bool) -> Answer:
        if not said.strip():
            raise OpenError("there is nothing in it", path=path, code="bad_target")
        if is_json(said):
            config = config_in(read_json(said, path))
            if config is not None:
                return _of_config(config, path)
        else:
            message = read_message(said)
            if message is not None:
                return self._of_message(message, path, keep=keep)
        target = target_of_text(said, source=self._source, name=path)
        return self._known(target, [], kept=None if keep else target)

    def _of_message(self, message: LoadMessage, path: str, *, keep: bool) -> Answer:
        target = target_of_message(message, self._source)
        counts = {
            "missing": len(message.missing),
            "unexpected": len(message.unexpected),
            "mismatched": len(message.mismatched),
        }
        sentences: list[list[str]] = []
        if not target.nested and self._place:
            names = text.plural(len(message.unexpected), "unexpected name")
            verb = "is" if len(message.unexpected) == 1 else "are"
            where = text.visible(self._place, 60)
            sentences.append(
                [
                    "spark",
                    f"The {names} {verb} the file's top level: the weights sit {_steps(self._place)} down, in {where}. "
                    "Unwrap is suggested as rule 1.",
                ]
            )
            target = replace(target, notes=tuple([note for note in target.notes if not note.endswith(UNWRAP)]))
        return self._known(target, sentences, counts=counts, kept=None if keep else target)

    def _known(
        self,
        target: Target,
        sentences: list[list[str]],
        *,
        counts: Mapping[str, int] | None = None,
        kept: Target | None = None,
        **more: Any,
    ) -> Answer:
        """A target whose keys are known, and what is to be known of it."""
        found = check_keys(self._source, target.table, target.unreported)
        adapter = _adapter_words(self._source, target)
        if adapter:
            sentences.append(["spark", f"{adapter}."])  # no key of the one is a key of the other
        elif counts is None:
            counts = {name: n for name, n in found.counts().items() if name != "matched"}
        wrapped = target.kind == "message" and not target.nested
        if found.loads and not wrapped and not target.incomplete and not adapter:
            n = len(found.matched)
            sentences.append(["ok", f"Nothing to repair: {n:,} of {text.plural(n, 'key')} match."])
        for note in target.notes:
            if not note.endswith(SHAPES_UNSAID):
                sentences.append(["warn" if _is_doubt(note, target) else "info", note])
        if (shapes := _shape_words(target)) != "":
            sentences.append(["info", shapes])
        buffers = {"target": packed(target)}
        if kept is not None:
            buffers["keys"] = _as_text(kept.table)
        more["incomplete"] = target.incomplete
        answer = _answer(target.kind, target.name, target.model, sentences, len(target.table), counts, **more)
        return Answer(answer.body, buffers)


def _adapter_words(source: KeyTable, target: Target) -> str:
    """What it means where the file is an adapter for its target, or the other way round; "" where neither is."""
    sides = [(source, target.table, "the target")]
    if target.kind == "checkpoint":
        sides.append((target.table, source, "this file"))
    found = [(adapter_in(adapter, model), whose) for adapter, model, whose in sides]
    return next((adapter.sentence(whose) for adapter, whose in found if adapter is not None), "")


def _answer(
    kind: str,
    name: str,
    model: str = "",
    sentences: list[list[str]] | None = None,
    keys: int | None = None,
    counts: Mapping[str, int] | None = None,
    **more: Any,
) -> Answer:
    return Answer(
        {
            "kind": kind,
            "name": text.visible(os.path.basename(name) or name, 200),  # noqa: PTH119  any text
            "model": text.visible(model, 120),
            "keys": keys,
            "counts": counts,
            "sentences": [[kind, text.visible(words, 400)] for kind, words in sentences or ()],
            "state_dicts": more.get("state_dicts", []),
            "state_dict": more.get("state_dict"),
            "field": more.get("field", ""),
            "incomplete": more.get("incomplete", False),
            "builds": more.get("builds", False),
            "names": more.get("names", []),
        }
    )


def _of_config(config: Mapping[str, Any], path: str) -> Answer:
    """What a config is of, and whether who builds it is there; found without importing it."""
    field = next(field for field in LIBRARIES if isinstance(config.get(field), str))
    library = LIBRARIES[field]
    classes = config.get("architectures")
    model = classes[0] if isinstance(classes, list) and classes and isinstance(classes[0], str) else config[field]
    sentences = [["info", f"{library} builds it without weights, on the meta device, in a process of its own."]]
    missing = next((needed for needed in ("torch", library) if find_spec(needed) is None), "")
    if missing:
        sentences = [
            ["warn", f"{missing} is not installed beside sdviewer, so this model cannot be built here."],
            ["info", "Give a checkpoint of it, or a list of its keys, instead."],
        ]
    if config.get("auto_map"):
        sentences.append(["warn", "The config names code of its own (auto_map). That is not run."])
    return _answer("config", path or "config", str(model), sentences, field=field, builds=not missing)


def _names_in(path: str) -> list[list[str]]:
    """Classes and functions at the top of a Python file, which is read and not run; "" where it cannot be read.

    Raises:
        OpenError: there is no such file.
    """
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MOST_CODE)
    except (OSError, ValueError):
        raise OpenError("it cannot be read", path=path, code="not_found") from None
    try:
        tree = ast.parse(raw)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    kinds = {ast.ClassDef: "class", ast.FunctionDef: "function"}
    found = [[one.name, kinds[type(one)]] for one in tree.body if isinstance(one, ast.ClassDef | ast.FunctionDef)]
    return [one for one in found if not one[0].startswith("_")][:MOST_NAMES]


def _searched(raw: bytes) -> bytes:
    """A text, or of a very long one the part from its last load message on."""
    if len(raw) <= MOST_SEARCHED:
        return raw
    last = max(map(raw.rfind, MESSAGE_SIGNS))
    if last < 0:
        return raw[:MOST_BYTES]
    head = raw.rfind(MESSAGE_SIGNS[0], max(last - MOST_SEARCHED, 0), last + len(MESSAGE_SIGNS[0]))
    start = max((head if head >= 0 else last) - BEFORE_MESSAGE, 0)
    return raw[start : start + MOST_BYTES]


def _steps(place: str) -> str:
    n = place.count(".") + 1
    return "one step" if n == 1 else f"{n:,} steps"


def _shape_words(target: Target) -> str:
    """Of how many keys the shape is not known, and what that means."""
    table = target.table
    unknown = sum([shape is None and at not in table.not_tensors for at, shape in enumerate(table.shapes)])
    if not unknown or target.kind not in ("message", "keys"):
        return ""
    what = "An error" if target.kind == "message" else "The list"
    names = (
        f"{what} names keys but not shapes."
        if unknown == len(table)
        else (f"Of {unknown:,} of {len(table):,} keys the shape is not told.")
    )
    return f"{names} Pairs will be checked by name and order; add a model class or checkpoint to check shapes too."


def _is_doubt(note: str, target: Target) -> bool:
    """Whether a note says that keys are not sure to be those of the model."""
    return (target.incomplete or target.approximate) and any(word in note for word in ("cut", "another file", "wrong"))


def _as_text(table: KeyTable) -> bytes:
    """The keys with their shapes, as the list of keys that a target can be (`repair.key_lists`)."""
    shapes = [None if shape is None else list(shape) for shape in table.shapes]
    return json.dumps(dict(zip(table.keys, shapes, strict=True))).encode()
