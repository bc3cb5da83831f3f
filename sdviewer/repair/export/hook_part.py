"""What a pre-hook does, in words that need nothing of sdviewer: its source goes into the text that is handed out."""

from __future__ import annotations

import re
from typing import Any


def rename_keys(state_dict: dict[str, Any], prefix: str, steps: list[Any]) -> None:
    """Rename the keys below a prefix, in place; keys stand in their old order."""
    names: dict[str, Any] = {key: key[len(prefix) :] for key in state_dict if key.startswith(prefix)}
    for kind, patterns in steps:
        for key, name in names.items():
            if name is None:
                continue
            if kind in ("drop", "keep"):
                if any(re.search(pattern, name) for pattern in patterns) == (kind == "drop"):
                    names[key] = None
                continue
            for pattern, result in patterns:
                name, found = re.subn(pattern, result, name, count=0 if kind == "everywhere" else 1)
                names[key] = name
                if found and kind == "first":
                    break
    kept = [name for name in names.values() if name is not None]
    if len(set(kept)) < len(kept):
        raise RuntimeError("two keys of the state dict would become one")
    tensors = {key: state_dict.pop(key) for key in names}
    for key, name in names.items():
        if name is not None:
            state_dict[prefix + name] = tensors[key]
