"""How much of an adapter is meant: PEFT writes that into an `adapter_config.json` beside it.

Facts: `LoraConfig` of PEFT: the product of the factors is scaled by lora_alpha / r, with `use_rslora` by
lora_alpha / sqrt(r); `alpha_pattern` and `rank_pattern` state others for some layers.
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


def scale_beside(path: str) -> Scale | None:
    """What the config beside an adapter says; None where there is none, or where it does not say it."""
    try:
        with (Path(path).parent / NAME).open("rb") as file:
            told = json.loads(file.read(LONGEST))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    alpha, rank = _number(told.get("lora_alpha")), _number(told.get("r"))
    if alpha is None or (told.get("use_rslora") and rank is None):
        return None
    scale = math.sqrt(rank) if told.get("use_rslora") and rank is not None else 1.0
    return Scale(alpha, scale, bool(told.get("alpha_pattern") or told.get("rank_pattern")))


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < math.inf else None
