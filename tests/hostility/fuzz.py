"""The readers under a fuzzer that is guided by coverage, where atheris is installed; else a plain loop.

    python -P -m tests.hostility.fuzz TARGET [-max_total_time=SECONDS] [-runs=N] [OTHER OPTION OF libFuzzer ...]

TARGET is one of `mutations.TARGETS`. Whatever a target does but end in a result or in one of our errors is a finding:
the input is printed, and with atheris written to `crash-*`. `pip install atheris` is all that is needed for the first.
"""

from __future__ import annotations

import contextlib
import importlib.util
import random
import sys
import tempfile
import time
from pathlib import Path

ALLOWED_MEMORY = 1024
"""MiB of the whole process; Python, torch and the fuzzer take most of it."""

ONE_INPUT = 20
"""Seconds."""


def with_atheris(target: str, options: list[str]) -> None:
    """Fuzz until the options say stop; the process ends there."""
    import atheris

    with atheris.instrument_imports(include=["sdviewer"]):
        from tests.hostility.mutations import TARGETS

    from sdviewer.errors import SDViewerError

    check = TARGETS[target].check

    def one_input(data: bytes) -> None:
        with contextlib.suppress(SDViewerError):
            check(data)

    seeds = Path(tempfile.mkdtemp(prefix="sdviewer-fuzz-"))
    for i, data in enumerate(TARGETS[target].seeds()):
        (seeds / f"{i:04}").write_bytes(data)
    limits = [f"-rss_limit_mb={ALLOWED_MEMORY}", f"-timeout={ONE_INPUT}", "-max_len=20000", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *limits, *options, str(seeds)], one_input)
    atheris.Fuzz()


def plain(target: str, options: list[str]) -> int:
    """The same without coverage: mutate, check, for as long or as often as the options say."""
    from tests.hostility.mutations import STRUCTURED, TARGETS, Outcome, attempt, mutate

    numbers = {name: float(value) for name, _, value in (option.partition("=") for option in options) if value}
    until = time.monotonic() + numbers.get("-max_total_time", 60)
    runs = numbers.get("-runs", float("inf"))
    seeds = TARGETS[target].seeds()
    rng, outcome = random.Random(time.time_ns()), Outcome()
    while outcome.inputs < runs and time.monotonic() < until and not outcome.failures:
        data = rng.choice(seeds)
        change = STRUCTURED.get(target)
        attempt(target, change(data, rng) if change and rng.random() < 0.5 else mutate(data, rng, seeds), outcome)
    print(f"{target}: {outcome.inputs:,} inputs without atheris, worst {outcome.worst_seconds:.2f} s")  # noqa: T201
    for failure in outcome.failures:
        print(failure)  # noqa: T201
    return 1 if outcome.failures else 0


def main() -> None:
    """The process."""
    target, options = sys.argv[1], sys.argv[2:]
    if importlib.util.find_spec("atheris") is not None:
        with_atheris(target, options)
    else:
        sys.exit(plain(target, options))


if __name__ == "__main__":
    main()
