"""How many rules say a known correspondence, whether they say it exactly, and how long a fit takes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sdviewer.core.collector import collector_off
from sdviewer.core.key_table import KeyTable, checkpoint_of_table
from sdviewer.repair.execution import map_of
from sdviewer.repair.fit import Fit, fit_to
from sdviewer.repair.operations import operation_from_step
from sdviewer.repair.target import Target


@dataclass(frozen=True)
class FitCount:
    """The rules of the steps that a fit offers, beside the kinds of keys (alike but for their numbers) that change.

    A kind that gets another name and has its numbers moved counts twice, as a person would write two rules for it.

    `unsaid` counts the keys that were matched and that the steps do not bring home.
    """

    rules: int
    kinds: int
    unsaid: int
    seconds: float


def fit_count(pair: Mapping[str, Any]) -> FitCount:
    """Fit one side of a pair to the other, as keys with shapes."""
    source, target = _table(pair["source"]), _table(pair["target"])
    start = time.perf_counter()
    with collector_off():  # as a command and the window's process have it
        found = fit_to(checkpoint_of_table(source), 0, source, Target("keys", "model", target), accept_ambiguous=True)
    seconds = time.perf_counter() - start
    rules = sum(len(one.step.get("rules", "1")) for one in found.suggestions)
    return FitCount(rules, len(_kinds(pair["map"])), _unsaid(found), seconds)


def _kinds(made: Mapping[str, Any]) -> set[tuple[str, bool]]:
    found = set()
    for key, to in made.items():
        kind = ".".join(["#" if part.isdecimal() else part for part in key.split(".")])
        moved = isinstance(to, dict)
        name = to["to"] if moved and to["op"] in ("transpose", "permute_rope", "squeeze") else to
        found |= {(kind, False)} if name != key else set()
        found |= {(kind, True)} if moved and name is not to else set()
    return found


def _unsaid(found: Fit) -> int:
    done = map_of(found.source, [operation_from_step(one.step) for one in found.suggestions])
    unsaid = 0
    for one in found.matching.found:
        wanted = {found.target.table.keys[place] for place in one.targets}
        if one.relation != "tie":
            unsaid += sum(not wanted <= _targets(done[found.source.keys[place]]) for place in one.sources)
    return unsaid


def _table(shapes: Mapping[str, Any]) -> KeyTable:
    return KeyTable(tuple(shapes), [tuple(shape) for shape in shapes.values()], [""] * len(shapes))


def _targets(made: str | Mapping[str, Any]) -> set[str]:
    to = made if isinstance(made, str) else made.get("to", ())
    return {to} if isinstance(to, str) else set(to)
