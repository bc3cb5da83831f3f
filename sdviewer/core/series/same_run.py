"""Which files are other checkpoints of the run that one is of: by their names first, then by what is in them.

A name is taken apart: what counts its step (`epoch12`, `step=3000`, a number that stands alone), the metrics that
trainers write behind it (`val_loss=0.23`) and words for one of many (`best`, `last`) go; what is left is what the run
is called. A number that belongs to the name of the model stays in it: `resnet50`, `vit_b16`, `fold_2`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final, Literal, NamedTuple

from sdviewer.core.series.metrics import rule_of
from sdviewer.core.series.order import STEP_WORDS

Evidence = Literal["step", "number", ""]
"""Why a name is taken for one of several: it says so, it has a number that could count anything, or nothing tells."""

NOT_STEPS: Final = frozenset(
    (
        *("seed", "fold", "split", "rank", "part", "shard", "worker", "gpu", "device", "v", "version", "ver"),
        *("exp", "run", "trial", "size", "patch", "layer", "dim", "s", "i"),
    )
)
"""Words before a number that tells different things apart, not steps of one; some stand for steps elsewhere."""

ONE_OF_MANY: Final = frozenset(("best", "last", "latest", "final", "current", "newest", "averaged"))
"""Words that call a checkpoint one of its run."""

GENERIC: Final = frozenset(
    ("model", "checkpoint", "ckpt", "weights", "state", "net", "network", "pytorch", "val", "valid", "validation")
)
"""Words that tell no run from another one."""

FEWEST_NUMBERED: Final = 3
"""Files that are taken for a run where only a number tells them apart."""

ALIKE: Final = 0.6
"""Share of the keys, with their shapes, that two checkpoints of one run have in common at least."""

_NUMBERED = re.compile(r"([^\W\d_]*)([_=.\- ]*)\d+(\.\d+)?(?:[kKmM](?![^\W_]))?(?=([^\W\d_]?))")
"""A word, what parts it from its number, a fraction, and a letter behind it."""
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,11}$")


class RunName(NamedTuple):
    """What a name says: the run that it is of, in lower case, its suffix, and why it is one of several."""

    run: str
    suffix: str
    evidence: Evidence


class Relatives(NamedTuple):
    """The names of one run, and whether these alone make it one: else what is in the files has to."""

    names: list[str]
    told_by_names: bool


def run_name(name: str) -> RunName:
    """Take a name apart."""
    found = _SUFFIX.search(name)
    suffix = found[0] if found else ""
    stem = name.removesuffix(suffix)
    kinds = {_kind(hit) for hit in _NUMBERED.finditer(stem)}
    parts = [part for part in re.split(r"[\s_=.\-+]+", _NUMBERED.sub(_left, stem).lower()) if part]
    says_so = "step" in kinds or bool(ONE_OF_MANY.intersection(parts))
    evidence: Evidence = "step" if says_so else "number" if "number" in kinds else ""
    return RunName(" ".join(part for part in parts if part not in ONE_OF_MANY | GENERIC), suffix.lower(), evidence)


def _kind(hit: re.Match[str]) -> Literal["step", "metric", "number", "name"]:
    """What a number in a name is: a step, a metric, one that could count anything, or a part of the name."""
    word, gap, fraction, behind = hit[1].lower(), hit[2], hit[3], hit[4]
    if word in NOT_STEPS:
        return "name"
    if rule_of(word):
        return "metric"
    if word in STEP_WORDS:
        return "name" if fraction else "step"
    return "name" if fraction or behind or (word and not gap) else "number"


def _left(hit: re.Match[str]) -> str:
    """What of a number and its word the run is called by."""
    return {"step": " ", "metric": " ", "number": f"{hit[1]} ", "name": hit[0]}[_kind(hit)]


def relatives(own: str, names: Sequence[str]) -> Relatives | None:
    """Those of the names that are of the run of `own`, which is among them; None where it is no run.

    Two files are a run only where both names say so.
    """
    mine = run_name(own)
    if not mine.evidence:
        return None
    found: list[str] = []
    steps = 0
    for name in names:
        other = run_name(name)
        if other.evidence and (other.run, other.suffix) == (mine.run, mine.suffix):
            found.append(name)
            steps += other.evidence == "step"
    if steps < 2 and len(found) < FEWEST_NUMBERED:
        return None
    return Relatives(found, steps >= 2)


def is_alike(a: Collection[tuple[str, tuple[int, ...]]], b: Collection[tuple[str, tuple[int, ...]]]) -> bool:
    """Whether most of the keys with their shapes are in both: a grown model is alike, another one is not."""
    a, b = set(a), set(b)
    return bool(a) and len(a & b) >= ALIKE * max(len(a), len(b))
