"""What torch's `state_dict()` would say of a whole pickled module, as far as the rows of its checkpoint tell.

Facts: torch 2.13 `torch.nn.Module.state_dict`: parameters, then persistent buffers, then submodules by name, each under
every name that it has. A class may do otherwise by code of its own, which no pickle holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sdviewer.core.checkpoint import Checkpoint, StateDict
from sdviewer.core.paths import KeyPath, TypedStep, dotted
from sdviewer.core.text import plural, visible
from sdviewer.errors import RepairError
from sdviewer.repair.plan import PlanWarning
from sdviewer.repair.wording import listed, quoted

REMEDY = "Load it where its classes are and save its state_dict()."

_PACKING = (
    "torch.ao.nn.quantized.modules.linear",
    "torch.ao.nn.quantized.modules.conv",
    "torch.ao.nn.quantized.modules.embedding_ops",
    "torch.ao.nn.quantized.dynamic.modules",
    "torch.ao.nn.intrinsic.quantized.modules.linear_relu",
    "torch.ao.nn.intrinsic.quantized.modules.conv_relu",
    "torch.ao.nn.intrinsic.quantized.dynamic.modules",
    "torch.ao.nn.sparse.quantized",
)
"""Where torch keeps classes that write other entries than their parameters and buffers."""

_NAMED = 10


def module_classes(checkpoint: Checkpoint, state_dict: StateDict) -> dict[str, str]:
    """Module path ("" for the whole) -> class as the pickle names it, in the order of torch's state_dict().

    Raises:
        RepairError: it is no pickled module, or the file does not say what torch's names for its tensors are.
    """
    if not state_dict.is_module:
        raise RepairError(
            "there is no pickled module to extract from: the tensors stand in a mapping already",
            path=checkpoint.path,
            remedy="Unwrap it instead." if state_dict.path else "Leave the step out.",
        )
    classes = {
        dotted(inside[:-1]): str(value.value)
        for value in checkpoint.values
        if (inside := _inside(value.path, state_dict)) and inside[-1] == _CLASS and _are_modules(inside[:-1])
    }
    _refuse_unknown(checkpoint, state_dict, classes)
    return classes


def only_model_is_module(state_dicts: Iterable[tuple[str, bool]]) -> bool:
    """Whether a clean copy can only be the module's state dict; of each state dict its role and `is_module`."""
    return [is_module for role, is_module in state_dicts if role == "model"] == [True]


def lost_tensors(checkpoint: Checkpoint, index: int) -> list[str]:
    """Dotted paths of tensors inside the module that state_dict() does not name: buffers not kept, attributes.

    Those whose bytes an entry keeps are not lost (`_flat_weights` of an LSTM).
    """
    state_dict = checkpoint.state_dicts[index]
    tensors = checkpoint.tensors
    entries = [tensors[row] for row in state_dict.tensor_of if row >= 0]
    paths = {tensor.path for tensor in entries}
    kept = {tensor.storage for tensor in tensors if _entry_above(tensor.path, paths) and tensor.storage is not None}
    return [
        dotted(tensor.path)
        for tensor in tensors
        if _inside(tensor.path, state_dict) and tensor.storage not in kept and not _entry_above(tensor.path, paths)
    ]


def extraction_warnings(checkpoint: Checkpoint, index: int, lost: list[str]) -> Iterator[PlanWarning]:
    """What a person should know of the state dict that comes out."""
    state_dict = checkpoint.state_dicts[index]
    if lost:
        message = f"{plural(len(lost), 'tensor')} that state_dict() does not name: {listed(lost)}, left out"
        yield PlanWarning("tensors_left_out", tuple(lost[:_NAMED]), message)
    hooked = list(dict.fromkeys(_with_hooks(checkpoint, state_dict)))
    if hooked:
        where = ", ".join([quoted(path) if path else "the whole" for path in hooked[:3]])
        message = f"hooks that could change what state_dict() says hang on {where}; they were not run"
        yield PlanWarning("state_dict_hooks", tuple(hooked[:_NAMED]), message)


_CLASS = TypedStep("class", "class")
_HOOKS = TypedStep("attribute", "_state_dict_hooks")


def _inside(path: KeyPath, state_dict: StateDict) -> KeyPath:
    """The steps below the module; none for what stands elsewhere."""
    above = len(state_dict.path)
    return path[above:] if path[:above] == state_dict.path else ()


def _are_modules(steps: KeyPath) -> bool:
    return all(isinstance(step, TypedStep) and step.type == "module" for step in steps)


def _is_entry(steps: KeyPath) -> bool:
    """Whether a submodule, a parameter or a buffer stands there."""
    last = steps[-1]
    return _are_modules(steps[:-1]) and isinstance(last, TypedStep) and last.type in ("module", "parameter", "buffer")


def _entry_above(path: KeyPath, entries: set[KeyPath]) -> bool:
    """Whether a tensor is an entry, or one of the parts that an entry is made of."""
    depth = len(path)
    while depth and isinstance(step := path[depth - 1], TypedStep) and step.type == "part":
        depth -= 1
    return path[:depth] in entries


def _with_hooks(checkpoint: Checkpoint, state_dict: StateDict) -> Iterator[str]:
    for rows in (checkpoint.objects, checkpoint.values):
        for row in rows:
            inside = _inside(row.path, state_dict)
            if _HOOKS in inside and _are_modules(above := inside[: inside.index(_HOOKS)]):
                yield dotted(above)


def _refuse_unknown(checkpoint: Checkpoint, state_dict: StateDict, classes: Mapping[str, str]) -> None:
    """Refuse where a submodule's tensors, and so keys of the state dict, are not told."""
    for path, cls in classes.items():
        if cls.replace("torch.nn.", "torch.ao.nn.", 1).startswith(_PACKING):
            raise _unknown(checkpoint, path, f"{cls} packs its weights in a way of its own")
    told = {checkpoint.tensors[row].path for row in state_dict.tensor_of if row >= 0}
    for found in checkpoint.objects:
        inside = _inside(found.path, state_dict)
        if inside and _is_entry(inside) and dotted(inside) not in classes and found.path not in told:
            raise _unknown(checkpoint, dotted(inside), f"an object of {found.cls} stands there")
    for value in checkpoint.values:
        inside = _inside(value.path, state_dict)
        if inside and _is_entry(inside) and value.value is not None and dotted(inside) not in classes:
            raise _unknown(checkpoint, dotted(inside), str(value.value))


def _unknown(checkpoint: Checkpoint, path: str, why: str) -> RepairError:
    where = quoted(path) if path else "the module"
    return RepairError(
        f"what state_dict() says of {where} is not told by the file: {visible(why, 200)}",
        path=checkpoint.path,
        remedy=REMEDY,
    )
