"""What steps on tensors share: which tensors can be computed with, and what takes their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry, check_keys
from sdviewer.repair.script.parts.failures import RecipeError


def needs_numbers(entry: Entry, what: str) -> None:
    """Stop where a tensor is sparse, quantized or without numbers."""
    tensor = entry.value
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
        raise RecipeError(f"{what} {entry.key!r}: it is no plain tensor of numbers")


def is_floating(tensor: torch.Tensor) -> bool:
    """Whether it holds floats or complex numbers, one in each element."""
    return bool(tensor.is_floating_point() or tensor.is_complex()) and "float4" not in str(tensor.dtype)


def is_packed(tensor: torch.Tensor) -> bool:
    """Whether it holds several numbers, or bits, in each element."""
    return str(tensor.dtype).startswith(("torch.bits", "torch.float4"))


def own(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers, row by row in a storage of their own."""
    return tensor.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)


def looks_at(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Equal for tensors that look at the same numbers of one storage."""
    if tensor.layout != torch.strided or not tensor.numel():
        return (id(tensor),)
    return (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.is_conj(), tensor.is_neg())


def as_before(new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    """The new tensor as a parameter with the attributes of the old one, where it was one, and with its gradient."""
    gradient = old.requires_grad and is_floating(new)
    if not isinstance(old, torch.nn.Parameter):
        return new.detach().requires_grad_(gradient)
    parameter = torch.nn.Parameter(new.detach(), requires_grad=gradient)
    parameter.__dict__.update(old.__dict__)
    return parameter


def made(
    checkpoint: Checkpoint, what: Any, inputs: Sequence[torch.Tensor], make: Callable[[], torch.Tensor]
) -> torch.Tensor:
    """The tensor that `what` makes of `inputs`: one and the same where they are, so that what was tied stays tied."""
    name = (what, *map(looks_at, inputs))
    if name not in checkpoint.made:
        new = make()
        checkpoint.made[name] = as_before(new, inputs[0]) if inputs else new
    return checkpoint.made[name]


def each_tensor(
    checkpoint: Checkpoint,
    where: Chosen | None,
    what: Any,
    change: Callable[[Entry], Callable[[], torch.Tensor] | None],
) -> Done:
    """Put in the place of each tensor what `change` says of it, None where it stays; `what` names the change."""
    matched = changed = 0
    for place, entry in enumerate(checkpoint.entries):
        if isinstance(entry.value, torch.Tensor) and (where is None or where(entry.key)):
            matched += 1
            make = change(entry)
            if make is not None:
                changed += 1
                checkpoint.entries[place] = entry._replace(value=made(checkpoint, what, [entry.value], make))
    return Done(matched, changed)


def put_entries(checkpoint: Checkpoint, outputs: Sequence[Sequence[Entry]]) -> int:
    """Put what became of each entry in its place; how many are other ones now."""
    old: list[str] = []
    new: list[str | None] = []
    for entry, output in zip(checkpoint.entries, outputs, strict=True):
        old += [entry.key] * max(1, len(output))
        new += [one.key for one in output] or [None]
    check_keys(old, new)
    pairs = zip(checkpoint.entries, outputs, strict=True)
    changed = sum(not (len(output) == 1 and is_same(output[0], entry)) for entry, output in pairs)
    checkpoint.entries = [one for output in outputs for one in output]
    return changed


def is_same(one: Entry, other: Entry) -> bool:
    """Whether an entry is what it was."""
    return one.key == other.key and one.value is other.value and one.made_of == other.made_of


def needs_elements(entry: Entry, what: str) -> torch.Tensor:
    """The tensor of an entry whose elements can be moved about one by one."""
    if not isinstance(entry.value, torch.Tensor):
        raise RecipeError(f"{what} {entry.key!r}: it is no tensor")
    needs_numbers(entry, what)
    if is_packed(entry.value):
        raise impossible(what, entry, "it is of a packed type")
    return entry.value


def needs_floats(entry: Entry, what: str) -> torch.Tensor:
    """The tensor of an entry that holds floats or complex numbers."""
    tensor = needs_elements(entry, what)
    if not is_floating(tensor) or tensor.dtype == torch.complex32:
        raise impossible(what, entry, f"its dtype is {tensor.dtype}")
    return tensor


def impossible(what: str, entry: Entry, reason: str) -> RecipeError:
    """What cannot be done to a tensor, to be raised."""
    return RecipeError(f"{what} {entry.key!r} ({'×'.join(map(str, entry.value.shape))}): {reason}")


def axis(what: str, entry: Entry, dim: int, *, room: int = 0) -> int:
    """A dimension counted from 0; `room` is how many the tensor gets besides."""
    ndim: int = entry.value.dim() + room
    if not -ndim <= dim < ndim:
        raise impossible(what, entry, f"there is no dimension {dim}")
    return dim % ndim


def as_bits(tensor: torch.Tensor) -> torch.Tensor:
    """The elements as integers of their size, which every torch can move about, whatever their dtype."""
    sizes = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    plain = tensor.detach().resolve_conj().resolve_neg()
    return plain.view(sizes[plain.element_size()]) if plain.element_size() in sizes else plain


def as_float(tensor: torch.Tensor) -> torch.Tensor:
    """Floats of 16 bits and less as float32, in which torch computes with them."""
    small = tensor.is_floating_point() and tensor.element_size() <= 2
    return tensor.detach().float() if small else tensor.detach().resolve_conj().resolve_neg()


def in_groups(tensor: torch.Tensor, dim: int, groups: int) -> torch.Tensor:
    """A dimension as two: `groups`, and the places of each."""
    shape = tensor.shape
    return tensor.reshape(*shape[:dim], groups, shape[dim] // groups, *shape[dim + 1 :])


def out_of_groups(tensor: torch.Tensor, dim: int) -> torch.Tensor:
    """A dimension and the one behind it as one."""
    shape = tensor.shape
    return tensor.reshape(*shape[:dim], shape[dim] * shape[dim + 1], *shape[dim + 2 :])
