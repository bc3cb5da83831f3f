"""Numbers that the files of a series state of themselves and that vary: accuracy, loss, learning rate.

Which way is better goes by the name alone, in the words that training scripts use (`best_acc1`, `val_loss`,
`best_model_score` of Lightning's callbacks); what no word tells has no best.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from sdviewer.core.checkpoint import Checkpoint, TensorInfo, ValueInfo
from sdviewer.core.paths import KeyPath, TypedStep, dotted
from sdviewer.core.series.order import as_number

Rule = Literal["highest", "lowest", ""]

HIGH: Final = re.compile(
    r"(acc|accuracy|prec|precision|top|f1|auc|auroc|map|ap|iou|miou|dice|bleu|rouge|psnr|ssim|score|reward|return|recall"
    r"|r2|kappa|mcc|hits|mrr|ndcg|win|em|cider|meteor)\d*"
)
LOW: Final = re.compile(
    r"(loss|losses|err|error|ppl|perplexity|fid|kid|mae|mse|rmse|wer|cer|bpb|bpc|bpd|nll|lpips|kl|elbo|eer|regret|ter|epe)"
    r"\d*"
)
"""Words, with the number that tells which of several, of which more or less is better."""

UNRELATED: Final = frozenset({"epoch", "epochs", "step", "steps", "iter", "iteration", "lr", "seed", "size", "weight"})
"""Words that make a number no measure of how good the model is, whatever else its name says."""

MOST_NUMBERS: Final = 2_000
"""Numbers of one file that are kept."""

MOST_SCALARS: Final = 50
"""Tensors of one number that are read of one file."""

MOST: Final = 40
"""Metrics that are offered."""

_WORDS = re.compile(r"[A-Za-z]+[0-9]*|[0-9]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Metric(NamedTuple):
    """One number over the steps: `values` (NaN where a file has none), the `best` step or -1, and by which rule."""

    name: str
    values: tuple[float, ...]
    best: int
    rule: Rule

    @property
    def words(self) -> str:
        """How the best was chosen."""
        if self.best < 0:
            return ""
        so_far = self.is_so_far and self.values.count(self.values[self.best]) > 1
        return f"first with the {self.rule} {self.name}" if so_far else f"{self.rule} {self.name}"

    @property
    def is_so_far(self) -> bool:
        """Whether it is the best so far, which a file keeps that is worse itself."""
        return "best" in _words(self.name)


def numbers_of(checkpoint: Checkpoint) -> dict[str, float]:
    """The numbers that a file states, by their dotted names: plain values, and those that safetensors keep as text."""
    found: dict[str, float] = {}
    for info in checkpoint.values:
        number = _number_of(info)
        if number is not None and len(found) < MOST_NUMBERS:
            found.setdefault(dotted(info.path), number)
    kept = checkpoint.metadata.get("safetensors")
    if isinstance(kept, Mapping):
        for name, value in kept.items():
            number = _number(value)
            if number is not None and len(found) < MOST_NUMBERS:
                found.setdefault(str(name), number)
    return found


def scalar_metrics(tensors: Sequence[TensorInfo]) -> list[tuple[int, str]]:
    """Tensors of one number that are named like a metric, as torch's own examples keep `best_acc1`: index and name."""
    found: list[tuple[int, str]] = []
    for index, info in enumerate(tensors):
        last = dotted(info.path[-1:])
        if (
            len(found) < MOST_SCALARS
            and info.elements == 1
            and len(info.shape) < 2
            and rule_of(last)
            and not info.unreadable
        ):
            found.append((index, dotted(info.path)))
    return found


def _number_of(info: ValueInfo) -> float | None:
    """The number that a value is; in a list only what each group of an optimizer has once."""
    if isinstance(info.value, str) and info.type in ("float", "builtins.float"):
        return _number(info.value)  # "nan" and "inf", which JSON has no numbers for
    if not info.path or (_in_list(info.path) and dotted(info.path[-1:]) != "lr"):
        return None
    return as_number(info.value)


def _in_list(path: KeyPath) -> bool:
    return any(isinstance(step, TypedStep) and step.type in ("index", "int") for step in path)


def _number(value: Any) -> float | None:
    """A number, also one that is written as text."""
    try:
        return float(value) if isinstance(value, str) and len(value) < 40 else as_number(value)
    except ValueError:
        return None


def _words(name: str) -> list[str]:
    """The words of a name, also those that only capitals tell apart: `valLoss`, but `mIoU` is one."""
    last = name.rsplit("/", 1)[-1].replace(".", "_")
    return [word.lower() for part in (last, _CAMEL.sub("_", last)) for word in _WORDS.findall(part)]


def rule_of(name: str) -> Rule:
    """Which of its values is the best, by the last words of its name; "" where they do not tell."""
    for part in reversed(name.split(".")):
        words = _words(part)
        if any(word in UNRELATED for word in words):
            return ""
        if any(LOW.fullmatch(word) for word in words):
            return "lowest"
        if any(HIGH.fullmatch(word) for word in words):
            return "highest"
    return ""


def find_metrics(files: Sequence[Mapping[str, float]]) -> list[Metric]:
    """The numbers that at least two files state and that vary, what tells most about the model first."""
    names: dict[str, None] = {}
    for stated in files:
        names.update(dict.fromkeys(stated))
    made = []
    for name in names:
        values = tuple([stated.get(name, math.nan) for stated in files])
        different = {value for value in values if not math.isnan(value)}
        if len(different) < 2 or sum(name in stated for stated in files) < 2:
            continue
        rule = rule_of(name)
        made.append(Metric(name, values, best_step(values, rule), rule))
    made.sort(key=_rank)
    return made[:MOST]


def best_step(values: Sequence[float], rule: Rule) -> int:
    """The first step with the best finite value, -1 where there is none."""
    finite = [at for at, value in enumerate(values) if math.isfinite(value)]
    if not finite or not rule:
        return -1
    sign = 1.0 if rule == "lowest" else -1.0
    return min(finite, key=lambda at: (sign * values[at], at))


def _rank(metric: Metric) -> tuple[bool, bool, bool, bool, int]:
    """What somebody chooses a checkpoint by first: accuracies before losses, of validation before others."""
    words = _words(metric.name.replace(".", "_"))
    validation = any(word in ("val", "valid", "validation", "eval", "test", "dev") for word in words)
    return not metric.rule, metric.rule == "lowest", not validation, metric.is_so_far, len(metric.name)


def shortest_names(names: Iterable[str]) -> dict[str, str]:
    """For each dotted name the fewest of its last parts that no other one ends with."""
    every = list(names)
    made: dict[str, str] = {}
    for name in every:
        parts = name.split(".")
        for n in range(1, len(parts) + 1):
            short = ".".join(parts[-n:])
            if sum(other == short or other.endswith(f".{short}") for other in every) == 1 or n == len(parts):
                made[name] = short
                break
    return made
