"""Steps that are not in the recipe of a workbench yet: what they would give, and how they are answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sdviewer.engine.failures import sentence
from sdviewer.engine.fit_file import FitFile, Made
from sdviewer.engine.fitted import Fitted
from sdviewer.errors import OpenError, RepairError, UsageError
from sdviewer.repair.operations import Operation


class Preview(NamedTuple):
    """What is shown in the place of what the recipe makes; `told` is the PREVIEW of `engine.workbench`."""

    made: Made
    told: dict[str, Any]


def preview_of(file: FitFile, made: Made | None, error: str, *, at: int = -1, first: int = 0) -> Preview:
    """What steps gave, or None and why they do not go through; `at` and `first` as in PREVIEW."""
    told: dict[str, Any] = dict.fromkeys(("gain", "unknown", "drops", "left", "worse", "lost", "astray"), 0)
    told |= {"first": first, "at": at, "error": error}
    if made is None:
        return Preview(file.made, told)
    return Preview(made, {**told, **_effect(file.fitted, made.fitted)})


def try_steps(
    file: FitFile, steps: Sequence[Operation], at: int = -1, instead: int = 0, allow: Sequence[str] = ()
) -> Preview:
    """What steps would give, as `FitFile.with_steps` takes them."""
    try:
        return preview_of(file, file.with_steps(steps, at, instead, allow), "")
    except (RepairError, UsageError, OpenError) as failed:
        return preview_of(file, None, sentence(failed))


def answered(
    steps: Sequence[Operation],
    place: str,
    label: str = "",
    *,
    at: int = -1,
    instead: int = 0,
    allow: Sequence[str] = (),
) -> dict[str, Any]:
    """Steps for the state dict at a dotted path as the window puts them into the recipe: as `accept` of
    `engine.workbench` answers them."""
    told: dict[str, Any] = {"steps": [[step.to_step(), step.label] for step in steps]}
    told |= {"label": label or steps[-1].label}
    told |= {} if at < 0 else {"at": at, "instead": instead}
    return {**told, "state_dict": place, **({"allow": list(allow)} if allow else {})}


def _effect(before: Fitted, after: Fitted) -> dict[str, int]:
    """What becomes better and worse."""
    now, then = before.counts, after.counts
    known = {entry.key for entry in before.entries}
    statuses = enumerate(zip(before.status, after.status, strict=True))
    gained = [at for at, (was, status) in statuses if status == "match" and was != "match"]
    return {
        "gain": then["match"] - now["match"],
        "drops": then["dropped"] - now["dropped"],
        "left": max(len(after.allowed) - len(before.allowed), 0),
        "worse": max(then["shape"] - now["shape"], 0),
        "lost": max(then["missing"] - now["missing"], 0),
        "unknown": sum(after.target.table.shapes[at] is None for at in gained),
        "astray": sum(after.entries[at].key not in known for at in after.unexpected),
    }
