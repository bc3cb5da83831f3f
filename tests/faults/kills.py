"""Random kills of a save, and of a writer that takes no care as the control.

`python -m tests.faults.kills FOLDER N SOURCE ...` kills N saves of each source and place, at a moment between the start
and a little after the usual end, and prints one JSON document. The control must be seen to leave broken files: where it
is not, the kills came at the wrong moments and say nothing of the save.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from tests.faults.saves import PLACES, NaiveScene, Scene
from tests.faults.system_calls import End
from tests.faults.trials import Report


def kill_at_random(scene: Scene, report: Report, kills: int, chance: random.Random) -> None:
    """Start a save, wait, kill it, look."""
    scene.reset()
    started = time.monotonic()
    scene.save()
    usual = time.monotonic() - started
    for number in range(kills):
        scene.reset()
        child = os.fork()
        if child == 0:
            try:
                scene.save()
            finally:
                os._exit(0)
        time.sleep(chance.uniform(0, 1.2 * usual))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        was_killed = os.WIFSIGNALED(status)
        report.note(scene, f"kill {number}", End("killed" if was_killed else "saved"))


def main() -> None:
    """`FOLDER N SOURCE ...`."""
    _, folder, kills, *sources = sys.argv
    seed = int(time.time())
    chance = random.Random(seed)
    found = {}
    for name, kind in (("save", Scene), ("control", NaiveScene)):
        report = Report()
        for source in map(Path, sources):
            for place in PLACES:
                scene = kind(Path(folder) / name / source.stem / place, source, place)
                kill_at_random(scene, report, int(kills), chance)
        found[name] = {"saves": report.saves, "ends": report.ends, "wrong": report.wrong}
    sys.stdout.write(json.dumps({**found, "seed": seed}) + "\n")


if __name__ == "__main__":
    main()
