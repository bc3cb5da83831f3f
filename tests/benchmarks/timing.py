"""Timing whole processes and calls, several times, by their median."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table. `ours` and `reference` in `unit`; `reach` and `aim` are ratios ours / reference."""

    what: str
    ours: float
    reference: float
    unit: str
    reach: float
    aim: float
    against: str

    @property
    def ratio(self) -> float:
        """Ours over the reference; for speeds, the reference over ours would hide what is asked."""
        return self.ours / self.reference


def seconds(call: Callable[[], object], runs: int = 3) -> float:
    """Median wall seconds of a call, after one that is not counted."""
    call()
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def process(*command: str) -> Callable[[], object]:
    """A call that runs Python with `command` and throws its output away."""

    def run() -> None:
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)

    return run


def peak_mib(*command: str) -> float:
    """Peak memory of one Python process, in MiB."""
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", script, sys.executable, *command], check=True, capture_output=True)
    unit = 1024 if sys.platform != "darwin" else 1
    return int(done.stdout.split()[-1]) * unit / 2**20 if sys.platform != "darwin" else int(done.stdout) / 2**20


def own_peak_mib() -> float:
    """Peak memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
