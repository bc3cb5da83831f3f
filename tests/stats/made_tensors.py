"""Tensors of odd shapes, types and views, with their values in float64 as torch has them."""

from __future__ import annotations

import numpy as np
import torch


def odd_tensors() -> dict[str, torch.Tensor]:
    """By a name that says what is odd about each; all with two or more long dimensions."""
    random = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    return {
        "wide": normal(7, 61),
        "tall": normal(83, 5),
        "float64": normal(13, 17).double(),
        "float16": normal(19, 11).half(),
        "bfloat16": normal(23, 9).bfloat16(),
        "float8": normal(12, 33).to(torch.float8_e4m3fn),
        "int8": torch.randint(-90, 90, (15, 21), generator=random, dtype=torch.int8),
        "int64": torch.randint(-9, 9, (15, 21), generator=random),
        "bool": torch.rand(14, 20, generator=random) < 0.4,
        "complex": torch.complex(normal(9, 12), normal(9, 12)),
        "transposed": normal(31, 18).T,
        "every other": normal(40, 30)[3::2, 1::3],
        "kernels": normal(8, 3, 5, 4),
        "channels last": normal(6, 4, 3, 5).to(memory_format=torch.channels_last),
        "a one in front": normal(1, 12, 16),
        "expanded along": normal(6, 1).expand(6, 9),
        "expanded over": normal(1, 8).expand(5, 8),
    }


def values_of(tensor: torch.Tensor) -> np.ndarray:
    """As float64 or complex128."""
    tensor = tensor.resolve_conj().resolve_neg()
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64).numpy()
