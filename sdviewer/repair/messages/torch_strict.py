"""`load_state_dict` of torch 0.4 to 2.13, and who raises with its words: Lightning, diffusers, safetensors.

Facts: torch 2.13 `torch/nn/modules/module.py`; safetensors 0.8 `safetensors/torch.py` (sorted keys, four blanks, no
final dot); the wordings of older versions as they stand in messages that people posted.
"""

from __future__ import annotations

import re

from sdviewer.repair.messages.load_message import Gathered
from sdviewer.repair.messages.phrases import (
    LONGEST_ITEM,
    LONGEST_KEY,
    SHAPE,
    heads,
    phrase,
    quoted_keys,
    sections,
    shape_of,
    unwrapped,
)

NAME = "torch"
WORDS = ("Error(s)", "key(s)", "mismatch", "copying", "swapping", "buffer(s)", "dict-like", "parameter", "matched")

_COLON = r"\s{0,80}:"
_HEADS = heads(
    model="Error(s) in loading state_dict for",
    missing=("Missing key(s) in state_dict", _COLON),
    unexpected=("Unexpected key(s) in state_dict", _COLON),
    size="size mismatch for",
    copying="While copying the parameter named",
    swapping="While swapping the parameter named",
    running="Unexpected running stats buffer(s)",
    noop="copying from a non-meta parameter in the checkpoint",
    form="Expected state_dict to be dict-like, got",
    optimizer="loaded state dict contains a parameter group that",
    groups="loaded state dict has a different number of parameter groups",
    matched="<All keys matched successfully>",
)
_CLASS = re.compile(r"\s{0,80}([^:\"{}]{1,400}):")
"""A name; a traceback can show the line of Python that makes one, with its braces."""

_KEY = rf"\s{{0,80}}(.{{1,{LONGEST_KEY}}}?)"
_NEWER = re.compile(
    rf"{_KEY}:{phrase(' copying a param with shape ')}{SHAPE}"
    rf"{phrase(' from checkpoint, the shape in current model is ')}{SHAPE}",
    re.DOTALL,
)
_OF_0_4_0 = re.compile(
    rf"{_KEY}:{phrase(' copying a param of ')}{SHAPE}{phrase(' from checkpoint, where the shape is ')}{SHAPE}",
    re.DOTALL,
)
_DIMENSIONS = re.compile(
    rf"{_KEY},{phrase(' whose dimensions in the model are ')}{SHAPE}"
    rf"{phrase(' and whose dimensions in the checkpoint are ')}{SHAPE}(.{{0,2000}})",
    re.DOTALL,
)
_NO_TENSOR = re.compile(
    rf"{_KEY},{phrase(' expected torch.Tensor or Tensor-like object from checkpoint but received ')}"
    r"(<[^>]{1,400}>|[^\n]{1,400})",
    re.DOTALL,
)
_PAIR = re.compile(rf'\s{{0,80}}"([^"]{{1,4000}})"\s{{1,80}}{phrase("and")}\s{{1,80}}"([^"]{{1,4000}})"')
_TYPE = re.compile(r"<\s*class\s*'")
_EXCEPTION = re.compile(
    rf"(?:{phrase('an exception occur')}r?{phrase('ed')})\s{{0,80}}:\s{{0,80}}(.{{1,1000}})", re.DOTALL
)


def read(text: str, found: Gathered) -> bool:
    """Add what the text says; whether it says anything in this dialect."""
    understood = False
    first = True
    for kind, match, rest in sections(_HEADS, text):
        understood = True
        if first:
            first = False
            if kind in ("missing", "unexpected", "size") and '", "' in text[: match.start()]:
                found.cut("what stands before the first list")
        item = rest[:LONGEST_ITEM]
        if kind == "model":
            _read_model(item, found)
        elif kind in ("missing", "unexpected"):
            _read_list(kind, rest, found)
        elif kind == "size":
            _read_size(item, found)
        elif kind in ("copying", "swapping"):
            _read_copy(item, found)
        elif kind == "running":
            pair = _PAIR.match(item)
            if pair is None:
                found.cut("a sentence about running statistics")
            else:
                found.unexpected.update({unwrapped(pair[1]): None, unwrapped(pair[2]): None})
        elif kind == "matched":
            found.matched = True
        else:
            found.note(_SENTENCES[kind])
    return understood


_SENTENCES = {
    "noop": "The model stood on the meta device and took nothing: load with assign=True.",
    "form": "What was given to load_state_dict is no mapping; the text names no keys.",
    "groups": "The text is about an optimizer's state; it names no keys of a model.",
    "optimizer": "The text is about an optimizer's state; it names no keys of a model.",
}


def _read_model(item: str, found: Gathered) -> None:
    name = _CLASS.match(item)
    if name is not None:
        model = unwrapped(name[1])
        if found.model and model != found.model:
            found.begin_again(f"The text holds a message about {found.model} too; this is the last one, about {model}.")
        found.model, found.whole_head = model, True


def _read_list(kind: str, rest: str, found: Gathered) -> None:
    keys, whole = quoted_keys(rest)
    keys_so_far = found.missing if kind == "missing" else found.unexpected
    keys_so_far.update(dict.fromkeys(keys))
    if not whole:
        found.cut(f"the list of {kind} keys")


def _read_size(item: str, found: Gathered) -> None:
    newer = _NEWER.match(item)
    if newer is not None:
        found.mismatched[unwrapped(newer[1])] = (shape_of(newer[2]), shape_of(newer[3]))
        return
    older = _OF_0_4_0.match(item)
    if older is None:
        found.cut("a sentence about shapes")
        return
    # torch 0.4.0 prints the shape of the model where it says "from checkpoint", and the other way round.
    found.mismatched[unwrapped(older[1])] = (shape_of(older[3]), shape_of(older[2]))


def _read_copy(item: str, found: Gathered) -> None:
    no_tensor = _NO_TENSOR.match(item)
    if no_tensor is not None:
        found.not_tensors[_named(no_tensor[1])] = _TYPE.sub("<class '", unwrapped(no_tensor[2]))
        return
    copy = _DIMENSIONS.match(item)
    if copy is None:
        found.cut("a sentence about a copy")
        return
    key, model, checkpoint = _named(copy[1]), shape_of(copy[2]), shape_of(copy[3])
    if model != checkpoint:
        found.mismatched[key] = (checkpoint, model)
        return
    reason = _EXCEPTION.search(copy[4])
    found.failed[key] = " ".join(reason[1].split()).rstrip(".") if reason else "the copy failed"


def _named(key: str) -> str:
    return unwrapped(key).removeprefix('"').removesuffix('"')
