"""How much of known correspondences the matching engine finds, and how fast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdviewer.core.collector import collector_off
from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching.matching import match

PAIRS = "SDVIEWER_BENCH_PAIRS"
"""Environment: a folder of more pairs, JSON files of `source` and `target` {key: shape} and `map`."""

PYTHON = "SDVIEWER_BENCH_PYTHON"
"""Environment: a Python that has transformers, if this one has not."""

MODES = ("registered", "sorted", "names only")

IN_TRAINING = "in training files"
"""The mode of pairs of which the source stands in a file as training writes it."""

MOST_IN_TRAINING = 2_000
"""Keys of a pair that is put into such files."""


@dataclass(frozen=True)
class Score:
    """What was found of one pair. `proved_wrong` counts pairs that were called proved and are not."""

    recall: float
    precision: float
    proved_wrong: int
    seconds: float


def known_pairs(folder: Path) -> list[dict[str, Any]]:
    """Those of the folder that the environment names, and those that transformers makes."""
    found = [json.loads(path.read_text()) for path in sorted(Path(os.environ.get(PAIRS, folder)).glob("*.json"))]
    out = folder / "pairs"
    script = Path(__file__).with_name("matching_pairs.py")
    ran = subprocess.run([os.environ.get(PYTHON, sys.executable), str(script), str(out)], stderr=subprocess.DEVNULL)
    return found + (json.loads(out.read_text()) if ran.returncode == 0 else [])


def score(pair: Mapping[str, Any], mode: str) -> Score:
    """Match one pair: as registered, sorted as safetensors does it, or without the target's shapes."""
    source, target = (_table(pair[side], mode, side == "target") for side in ("source", "target"))
    start = time.perf_counter()
    with collector_off():  # as a command and the window's process have it
        found = match(source, target)
    seconds = time.perf_counter() - start
    truth = {key: names for key, to in pair["map"].items() if (names := _targets(to))}
    right = claimed = proved_wrong = 0
    hits: set[str] = set()
    for one in found.found:
        if one.relation == "tie":
            continue
        to = tuple([target.keys[j] for j in one.targets])
        for i in one.sources:
            good = truth.get(source.keys[i]) == to
            hits |= {source.keys[i]} if good else set()
            if one.evidence != "ambiguous":
                claimed += 1
                right += good
            proved_wrong += one.evidence == "proved" and not good
    return Score(len(hits) / len(truth), right / max(claimed, 1), proved_wrong, seconds)


def lines(pairs: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, list[Score]]]:
    """Name, mode and score of each pair, then of all of them, by mode."""
    for mode in MODES:
        scores = [score(pair, mode) for pair in pairs]
        for pair, one in zip(pairs, scores, strict=True):
            yield pair["name"], mode, [one]
        yield "", mode, scores
    small = [pair for pair in pairs if len(pair["source"]) <= MOST_IN_TRAINING]
    yield "", IN_TRAINING, [score(made, MODES[0]) for pair in small for made in in_training(pair)]


def in_training(pair: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The source of a pair in files as training keeps them, beside what the target has no place for."""
    source = pair["source"]
    loss = {"criterion.weight": (21,), "projector.0.weight": (256, 256), "projector.0.bias": (256,)}
    yield _inside(pair, "model.net.", loss)
    yield _inside(pair, "module.encoder_q.", {"module.queue": (128, 4096), **_below("module.encoder_k.", source)})
    yield _inside(pair, "backbone.", {**_below("ema_model.module.backbone.", source), "ema_model.n_averaged": ()})
    flat = {f"model_ema.{key.replace('.', '')}": shape for key, shape in source.items()}
    yield _inside(pair, "model.", {**flat, "model_ema.decay": (), "model_ema.num_updates": ()})


def _inside(pair: Mapping[str, Any], prefix: str, others: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    truth = {prefix + key: to for key, to in pair["map"].items()}
    return {"source": {**_below(prefix, pair["source"]), **others}, "target": pair["target"], "map": truth}


def _below(prefix: str, shapes: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
    return {prefix + key: shape for key, shape in shapes.items()}


def _table(shapes: Mapping[str, Sequence[int]], mode: str, is_target: bool) -> KeyTable:
    keys = sorted(shapes) if mode == "sorted" else list(shapes)
    known = [None if mode == "names only" and is_target else tuple(shapes[key]) for key in keys]
    return KeyTable(tuple(keys), known, [""] * len(keys), ordered=mode != "sorted")


def _targets(to: Any) -> tuple[str, ...]:
    """The target keys of a map's entry: text, a list, or a table with an op."""
    if isinstance(to, dict):
        to = to.get("to", [])
    return (to,) if isinstance(to, str) else tuple(to)
