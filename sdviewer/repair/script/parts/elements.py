"""One number of the recipe as an element of a dtype."""

from __future__ import annotations

import math
from typing import Any

import torch

from sdviewer.repair.script.parts.failures import RecipeError


def element(value: Any, dtype: torch.dtype, *, rounded: bool = True) -> torch.Tensor:
    """A number as a tensor of one element; `rounded`: the nearest one where the dtype does not have it."""
    if isinstance(value, str):
        value = as_number(value)
    if dtype.is_complex:
        part = torch.float64 if dtype == torch.complex128 else torch.float32
        parts = [element(one, part, rounded=rounded) for one in (value.real, value.imag)]
        return torch.complex(*parts)
    if isinstance(value, complex):
        if value.imag:
            raise RecipeError(f"{value} cannot be held by {dtype}")
        value = value.real
    return floating(value, dtype, rounded) if dtype.is_floating_point else whole(value, dtype, rounded)


def as_number(text: str) -> float | complex:
    """The number that a text means: "nan", "-inf", "1+2j"."""
    try:
        return float(text)
    except ValueError:
        return complex(text)


def floating(value: float, dtype: torch.dtype, rounded: bool) -> torch.Tensor:
    """A number as a float, rounded as torch rounds."""
    if math.isfinite(value) and abs(value) > torch.finfo(dtype).max:
        raise RecipeError(f"{value} cannot be held by {dtype}")
    found = torch.tensor(float(value), dtype=torch.float64).to(dtype)
    back = found.double().item()
    same = back == value or (math.isnan(back) and math.isnan(value))
    if same and value == 0 and math.copysign(1, back) != math.copysign(1, value):
        same = rounded
    if not same and not (rounded and math.isfinite(value)):
        raise RecipeError(f"{value} cannot be held by {dtype}, the nearest is {back}")
    return found


def whole(value: float, dtype: torch.dtype, rounded: bool) -> torch.Tensor:
    """A number as an integer or a bool."""
    if not math.isfinite(value) or (value != int(value) and not rounded):
        raise RecipeError(f"{value} cannot be held by {dtype}, which holds whole numbers")
    lowest, highest = (0, 1) if dtype == torch.bool else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    if not lowest <= round(value) <= highest:
        raise RecipeError(f"{value} cannot be held by {dtype}, which holds {lowest} to {highest}")
    return torch.tensor(round(value), dtype=dtype)
