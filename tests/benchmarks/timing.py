"""Timing whole processes and calls, several times, by their median."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable


def seconds(call: Callable[[], object], runs: int = 3) -> float:
    """Median wall seconds of a call, after one that is not counted."""
    call()
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def both(ours: Callable[[], object], theirs: Callable[[], object], runs: int) -> tuple[float, float]:
    """Median wall seconds of two calls, made in turn: a machine that grows slow grows slow for both."""
    taken: tuple[list[float], list[float]] = ([], [])
    for run in range(runs + 1):
        for call, seconds_taken in zip((ours, theirs), taken, strict=True):
            start = time.perf_counter()
            call()
            if run:
                seconds_taken.append(time.perf_counter() - start)
    return statistics.median(taken[0]), statistics.median(taken[1])


def python(*command: str) -> Callable[[], object]:
    """A call that runs Python with `command` and throws its output away."""

    def run() -> None:
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)

    return run


def peak_mib(*command: str) -> float:
    """Peak memory of one Python process, in MiB."""
    child = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise RuntimeError(f"{command} ended with {status}")
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
