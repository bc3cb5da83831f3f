"""What `load_state_dict(strict=True)` says of a state dict, in torch's own words.

They are those of `torch.nn.Module.load_state_dict` and `_load_from_state_dict` of torch 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

MATCHED: Final = "<All keys matched successfully>"
"""What torch's result prints where nothing is wrong."""

Shape = tuple[int, ...]


def strict_words(
    model: str,
    missing: Sequence[str],
    unexpected: Sequence[str],
    mismatched: Sequence[tuple[str, Shape, Shape]] = (),
) -> str:
    """The text of the RuntimeError, or of the result where nothing is wrong.

    `mismatched` are keys with the shape in the checkpoint and that in the model.
    """
    said = []
    if missing:
        said.append(f"Missing key(s) in state_dict: {_listed(missing)}. ")
    if unexpected:
        said.append(f"Unexpected key(s) in state_dict: {_listed(unexpected)}. ")
    said += [
        f"size mismatch for {key}: copying a param with shape {_size(found)} from checkpoint, "
        f"the shape in current model is {_size(wanted)}."
        for key, found, wanted in mismatched
    ]
    if not said:
        return MATCHED
    lines = "\n\t".join(said)
    return f"Error(s) in loading state_dict for {model}:\n\t{lines}"


def _listed(keys: Sequence[str]) -> str:
    return ", ".join([f'"{key}"' for key in keys])


def _size(shape: Shape) -> str:
    return f"torch.Size([{', '.join(map(str, shape))}])"
