"""How much of an adapter is meant: PEFT writes that into an `adapter_config.json` beside it.

Facts: `LoraConfig` of PEFT: the product of the factors is scaled by lora_alpha / r, with `use_rslora` by
lora_alpha / sqrt(r); `alpha_pattern` and `rank_pattern` state others for some layers. `LoHaConfig` and `LoKrConfig` say
alpha, and scale by alpha / r, but for `use_khatri_rao`, which "abba" weights have unless it is false.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

from sdviewer.repair.adapters import Scale

NAME: Final = "adapter_config.json"
LONGEST: Final = 1 << 20
"""Bytes of it that are read."""
LARGEST: Final = 1 << 53
"""Numbers in it are below: floats that hold whole numbers."""


def scale_beside(path: str) -> Scale | None:
    """What the config beside an adapter says; None where there is none, or where it does not say it."""
    try:
        with (Path(path).parent / NAME).open("rb") as file:
            told = json.loads(file.read(LONGEST))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    name = "alpha" if told.get("peft_type") in ("LOHA", "LOKR") else "lora_alpha"
    alpha, rank = _number(told.get(name)), _number(told.get("r"))
    by_two = told.get("use_khatri_rao") is True or told.get("init_weights") == "abba"
    if alpha is None or by_two or (told.get("use_rslora") and rank is None):
        return None
    scale = math.sqrt(rank) if told.get("use_rslora") and rank is not None else 1.0
    varies = bool(told.get("alpha_pattern") or told.get("rank_pattern"))
    return Scale(alpha, scale, varies, int(rank) if rank is not None and rank >= 1 else None)


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < LARGEST else None
