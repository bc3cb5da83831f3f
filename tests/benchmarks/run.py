"""Measure every budget of docs/benchmarks.md that is built, print one table of ratios.

    python tests/benchmarks/run.py [open] [folders] [stats] [compare] [save] [window] [plots] [matching]

Everything is measured in this run, on this machine, files in the page cache; nothing here is a test.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sdviewer.engine.survey import BEHIND
from sdviewer.engine.worker import NICE
from tests.benchmarks import files
from tests.benchmarks.matching import IN_TRAINING, known_pairs
from tests.benchmarks.matching import lines as matching_lines
from tests.benchmarks.rules import fit_count
from tests.benchmarks.timing import both, peak_mib, python, seconds


@dataclass(frozen=True)
class Row:
    """One line of the table: what, our figure, what it is held against, their ratio and what the ratio should reach."""

    what: str
    ours: str
    reference: str
    ratio: float
    reach: float
    aim: float

    def cells(self) -> tuple[str, ...]:
        """The line as text; `>` marks a ratio that does not reach."""
        mark = "" if self.ratio <= self.reach else "  <-- misses"
        return (self.what, self.ours, self.reference, f"{self.ratio:.2f}", f"{self.reach:g}", f"{self.aim:g}{mark}")


IMPORT_TORCH = "import torch"
TORCH_LOAD = "import sys, torch; torch.load(sys.argv[1], mmap=True, weights_only=True)"
IMPORT_DCP = "import torch.distributed.checkpoint"
LOAD_DCP = """
import sys, warnings
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict
warnings.simplefilter("ignore")
state_dict = {}
planner = _EmptyStateDictLoadPlanner()
_load_state_dict(state_dict, storage_reader=FileSystemReader(sys.argv[1]), planner=planner, no_dist=True)
assert len(state_dict["model"]) > 1000
"""
LOAD_SHARDS = """
import sys, pathlib, torch
shards = [torch.load(shard, mmap=True, weights_only=True) for shard in sorted(pathlib.Path(sys.argv[1]).glob("*.bin"))]
"""
READ_AND_SUM = """
import os, sys, threading, time, warnings
import numpy as np
warnings.simplefilter("ignore")  # what stands between the storages is no float32
path, start = sys.argv[1], 0
if hasattr(os, "nice"):
    os.nice(int(sys.argv[2]))
size = os.path.getsize(path)
fd = os.open(path, os.O_RDONLY)
def work(at, end):
    buffer = bytearray(1 << 20)
    view = memoryview(buffer)
    while at < end:
        n = os.preadv(fd, [view], at)
        np.sum(np.frombuffer(view[: n // 4 * 4], np.float32))
        at += n
def once():
    half = size // 2 // 4 * 4
    threads = [threading.Thread(target=work, args=(0, half)), threading.Thread(target=work, args=(half, size))]
    start = time.perf_counter()
    [t.start() for t in threads]
    [t.join() for t in threads]
    return time.perf_counter() - start
once()
print(min(once() for _ in range(3)))
"""
STATISTICS = """
import sys, time
from sdviewer.formats import open_checkpoint, open_storage, tensor_source
from sdviewer.stats.histogram import summary_and_histogram
checkpoint = open_checkpoint(sys.argv[1])
def once():
    start = time.perf_counter()
    for index in range(len(checkpoint.tensors)):
        source = tensor_source(checkpoint, index)
        with open_storage(source) as storage:
            summary_and_histogram(storage, source.layout)
    return time.perf_counter() - start
once()
print(min(once() for _ in range(3)))
"""
# As the window measures a whole file (gui.survey_watch): two processes share its tensors, asked a part at a time.
SURVEY = """
import sys, threading, time
from dataclasses import asdict
from sdviewer.engine.client import Worker
from sdviewer.formats import open_checkpoint
path = sys.argv[1]
which = {"path": path, "identity": asdict(open_checkpoint(path).identity), "shares": 2}
part = {"first": [], "seconds": 0.3, "most": 1 << 62}
workers = [Worker("survey") for _ in range(2)]
failures, finished = [], threading.Semaphore(0)
def ask(worker, name, params):
    def done(body, buffers):
        if body["known"] < body["tensors"]:
            ask(worker, "measure", part)
        else:
            finished.release()
    worker.request(name, params, done, failed)
def failed(body):
    failures.append(body["message"])
    finished.release()
def once():
    start = time.perf_counter()
    for share, worker in enumerate(workers):
        ask(worker, "begin", {**which, "share": share})
    for _ in workers:
        finished.acquire()
    return time.perf_counter() - start
once()
best = min(once() for _ in range(3))
for worker in workers:
    worker.stop()
if failures:
    sys.exit(failures[0])
print(best)
"""
ONE_TENSOR = """
import sys, torch
torch.save({"w": torch.randn(1 << 14, 1 << 15)}, sys.argv[1])
"""
SIXTEEN_MILLION = """
import sys, torch
matrix = torch.randn(4096, 4096)
torch.save({"w": matrix, "b": torch.randn(4096), "w2": matrix * 2, "v": torch.randn(1 << 24)}, sys.argv[1])
"""


MOVED = """
import sys, torch
tensors = torch.load(sys.argv[1], weights_only=True)
torch.save({key: tensor + torch.randn_like(tensor) * 0.01 for key, tensor in tensors.items()}, sys.argv[2])
"""
# Loading is part of it: without the files there is nothing to compare.
EQUAL = """
import sys, time, torch
start = time.perf_counter()
a, b = (torch.load(path, mmap=True, weights_only=True) for path in sys.argv[1:])
a, b = a.get("state_dict", a), b.get("state_dict", b)
same = [torch.equal(a[key], b[key]) for key in a]
print(time.perf_counter() - start)
"""
ALL_CLOSE = """
import sys, time, torch
start = time.perf_counter()
a, b = (torch.load(path, mmap=True, weights_only=True) for path in sys.argv[1:])
same = [(torch.allclose(a[key], b[key]), (b[key] - a[key]).abs().max().item()) for key in a]
print(time.perf_counter() - start)
"""


SAVE = """
import sys
from sdviewer.formats import open_checkpoint
from sdviewer.formats.saving import save
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import parse_recipe
source, recipe, out = sys.argv[1:]
checkpoint = open_checkpoint(source)
save(checkpoint, make_plan(parse_recipe(open(recipe).read()), checkpoint), out, ask_torch=False)
"""


READ_AND_WRITE = """
import os, sys, time
source, out = sys.argv[1:]
fd, new = os.open(source, os.O_RDONLY), os.open(out, os.O_CREAT | os.O_WRONLY | os.O_EXCL)
size, at, to = os.fstat(fd).st_size, 0, 0
start = time.perf_counter()
os.posix_fallocate(new, 0, size // 2)
buffer = memoryview(bytearray(4 << 20))
while at < size:
    n = os.preadv(fd, [buffer], at)
    at += n
    to += os.pwrite(new, buffer[: n // 2], to)
os.fsync(new)
print(time.perf_counter() - start)
"""


def opening(folder: Path) -> Iterator[Row]:
    """Header-only opening: by keys, by bytes."""
    many = str(files.many_tensors(folder))
    ours = seconds(python("-m", "sdviewer", "info", many)) - seconds(python("-m", "sdviewer", "--version"))
    theirs = seconds(python("-c", TORCH_LOAD, many), 1) - seconds(python("-c", IMPORT_TORCH), 1)
    yield Row("open 100,000 tensors (info)", f"{ours:.2f} s", f"torch.load {theirs:.2f} s", ours / theirs, 0.25, 0.15)
    memory, torch_memory = peak_mib("-m", "sdviewer", "info", many), peak_mib("-c", TORCH_LOAD, many)
    ratio = memory / torch_memory
    yield Row("  peak memory of it", f"{memory:.0f} MiB", f"torch.load {torch_memory:.0f} MiB", ratio, 1.0, 0.5)
    small, big = str(files.large(folder, 2)), str(files.large(folder, 20))
    twenty, two = both(python("-m", "sdviewer", "info", big), python("-m", "sdviewer", "info", small), 15)
    yield Row("open 20 GB against 2 GB", f"{twenty:.3f} s", f"2 GB {two:.3f} s", twenty / two, 1.1, 1.0)


def folders(folder: Path) -> Iterator[Row]:
    """Checkpoints of several files against torch's own way to a state dict of them.

    An index of safetensors files holds the same tensors as that of torch zips, and is held against the same loading.
    """
    start = seconds(python("-m", "sdviewer", "--version"))
    zips = files.index_of_zips(folder)
    for what, path, title, program, loaded, imports in (
        ("a DCP folder", files.distributed(folder), "dcp load", LOAD_DCP, None, IMPORT_DCP),
        ("an index of torch zips", zips, "torch.load", LOAD_SHARDS, zips, IMPORT_TORCH),
        ("an index of safetensors", files.index_of_safetensors(folder), "torch.load", LOAD_SHARDS, zips, IMPORT_TORCH),
    ):
        other = str(loaded or path)
        ours = seconds(python("-m", "sdviewer", "info", str(path))) - start
        theirs = seconds(python("-c", program, other), 1) - seconds(python("-c", imports), 1)
        yield Row(
            f"open 100,000 tensors, {what}", f"{ours:.2f} s", f"{title} {theirs:.2f} s", ours / theirs, 0.25, 0.15
        )
        memory, most = peak_mib("-m", "sdviewer", "info", str(path)), peak_mib("-c", program, other)
        yield Row("  peak memory of it", f"{memory:.0f} MiB", f"{title} {most:.0f} MiB", memory / most, 1.0, 0.5)


def statistics(folder: Path) -> Iterator[Row]:
    """The numbers of 2 GiB against reading and adding: of one tensor, and of all of a file as the window has them."""
    path = folder / "one.pth"
    subprocess.run([sys.executable, "-c", ONE_TENSOR, str(path)], check=True)
    size = path.stat().st_size / 1e9
    thousand = files.large(folder, 2)
    # A survey lets the window go first; on a busy machine the reference has to let others go as much.
    for what, file, program, nice in (
        ("statistics + histogram, one tensor", path, STATISTICS, 0),
        ("all statistics, 1,000 tensors", thousand, SURVEY, NICE + BEHIND),
    ):
        reference = float(subprocess.check_output([sys.executable, "-c", READ_AND_SUM, str(file), str(nice)]))
        ours = float(subprocess.check_output([sys.executable, "-c", program, str(file)]))
        yield Row(
            f"{what} of 2 GiB float32",
            f"{size / ours:.1f} GB/s",
            f"read and sum {size / reference:.1f} GB/s",
            ours / reference,
            1 / 0.15,
            1 / 0.3,
        )
    path.unlink()


def comparing(folder: Path) -> Iterator[Row]:
    """Two files of 2 GiB, whole processes: the same bytes, and values that differ in every tensor."""
    a = files.large(folder, 2)
    same, other = folder / "same.pth", folder / "other.pth"
    shutil.copyfile(a, same)
    subprocess.run([sys.executable, "-c", MOVED, str(a), str(other)], check=True)

    def cmp() -> None:
        subprocess.run(["cmp", str(a), str(same)], check=True)

    for what, file, reach, aim in (("identical", same, 1.0, 0.5), ("all different", other, 2.0, 1.0)):
        ours, reference = both(python("-m", "sdviewer", "diff", str(a), str(file)), cmp, 5)
        name = f"compare two files of 2 GiB, {what}"
        yield Row(name, f"{ours:.2f} s", f"cmp {reference:.2f} s", ours / reference, reach, aim)
        for title, program in (("torch.equal", EQUAL), ("allclose + max", ALL_CLOSE)):
            theirs = float(subprocess.check_output([sys.executable, "-c", program, str(a), str(file)]))
            yield Row("  the same", f"{ours:.2f} s", f"{title} {theirs:.2f} s", ours / theirs, 1.0, 0.25)
    memory = peak_mib("-m", "sdviewer", "diff", str(a), str(other))
    yield Row("  peak memory of it", f"{memory:.0f} MiB", "200 MiB", memory / 200, 1.0, 0.75)
    same.unlink()
    other.unlink()
    many = files.many_tensors(folder)
    ours = seconds(python("-m", "sdviewer", "diff", str(many), str(many)), 1)
    loaded = float(subprocess.check_output([sys.executable, "-c", EQUAL, str(many), str(many)]))
    yield Row("compare 100,000 tensors", f"{ours:.2f} s", f"torch.equal {loaded:.2f} s", ours / loaded, 1.0, 0.5)


def saving(folder: Path) -> Iterator[Row]:
    """A rename-only save of 2 GiB, until the bytes are on the disk, against cp and sync."""
    source = files.large(folder, 2)
    recipe = folder / "strip.toml"
    recipe.write_text('format = "sdviewer-recipe/1"\n[[step]]\nop = "strip"\nprefix = "module."\n')
    copy, out = folder / "copy.pth", folder / "out.pth"

    def cp() -> None:
        subprocess.run(["cp", "--reflink=never", str(source), str(copy)], check=True)
        subprocess.run(["sync", str(copy)], check=True)
        copy.unlink()

    command = ["-m", "sdviewer", "repair", str(source), "--recipe", str(recipe), "-o", str(out), "--json"]
    writing, whole = [], []
    for _ in range(3):
        start = time.perf_counter()
        report = json.loads(subprocess.check_output([sys.executable, *command]))
        whole.append(time.perf_counter() - start)
        writing.append(report["seconds_writing"])
        out.unlink()
    reference = seconds(cp)
    ours = sorted(writing)[1]
    yield Row(
        "rename-only save of 2 GiB, written",
        f"{ours:.2f} s",
        f"cp + sync {reference:.2f} s",
        ours / reference,
        1.2,
        1.0,
    )
    yield Row(
        "  verified, hashed, loaded by torch",
        f"{sorted(whole)[1]:.2f} s",
        "the same",
        sorted(whole)[1] / reference,
        9,
        5,
    )
    memory = peak_mib("-c", SAVE, str(source), str(recipe), str(out))
    yield Row("  peak memory, written and compared", f"{memory:.0f} MiB", "200 MiB", memory / 200, 1.0, 0.5)
    out.unlink()
    yield from converting(folder, source, reference)


def converting(folder: Path, source: Path, copying: float) -> Iterator[Row]:
    """2 GiB in another container against cp and sync (seconds); a cast against reading 2 GiB and writing half of it."""
    out, recipe = folder / "out.safetensors", folder / "cast.toml"
    recipe.write_text('format = "sdviewer-recipe/1"\n[[step]]\nop = "cast"\ndtype = "bfloat16"\n')
    ours = _seconds_writing(out, "convert", str(source), "-o", str(out))
    yield Row(
        "torch zip to safetensors, 2 GiB", f"{ours:.2f} s", f"cp + sync {copying:.2f} s", ours / copying, 1.2, 1.0
    )
    out = folder / "out.pth"
    references = []
    for _ in range(3):
        references.append(float(subprocess.check_output([sys.executable, "-c", READ_AND_WRITE, str(source), str(out)])))
        out.unlink()
    reference = min(references)
    ours = _seconds_writing(out, "repair", str(source), "--recipe", str(recipe), "-o", str(out))
    what = "cast of 2 GiB float32 to bfloat16, written"
    yield Row(what, f"{ours:.2f} s", f"read and write {reference:.2f} s", ours / reference, 1.5, 1.0)


def _seconds_writing(out: Path, *command: str) -> float:
    """The best of three saves, until the bytes are on the disk."""
    found = []
    for _ in range(3):
        report = json.loads(subprocess.check_output([sys.executable, "-m", "sdviewer", *command, "--json"]))
        found.append(report["seconds_writing"])
        out.unlink()
    return min(found)


def window(folder: Path) -> Iterator[Row]:
    """From the start of the process to the painted tree; the event loop's gaps."""
    thousand, many, changed = files.large(folder, 2), files.many_tensors(folder), files.many_changed(folder)
    log = folder / "window.log"

    def until_painted() -> None:
        log.write_text("")
        environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "SDVIEWER_TEST_LOG": str(log)}
        child = subprocess.Popen([sys.executable, "-m", "sdviewer", "--new-window", str(thousand)], env=environment)
        while " painted " not in log.read_text():
            if child.poll() is not None:
                raise RuntimeError("the window ended")
            time.sleep(0.002)
        child.kill()
        child.wait()

    ours, reference = both(until_painted, python("-c", IMPORT_TORCH), 5)
    yield Row(
        "start to tree painted: 1,000 keys, 2 GiB",
        f"{ours:.2f} s",
        f"import torch {reference:.2f} s",
        ours / reference,
        0.7,
        0.4,
    )
    for name, other in (("window_probe.py", thousand), ("compare_probe.py", changed), ("workbench_probe.py", None)):
        probe = Path(__file__).with_name(name)
        found = json.loads(
            subprocess.check_output([sys.executable, str(probe), str(many), str(other or "")]).splitlines()[-1]
        )
        for phase, gap in found["worst"].items():
            yield Row(f"longest gap, 100,000 keys: {phase}", f"{gap:.0f} ms", "50 ms", gap / 50, 1.0, 0.32)
        if "p999" in found:
            yield Row("  99.9 % of the beats", f"{found['p999']:.0f} ms", "50 ms", found["p999"] / 50, 1.0, 0.32)
        where = " of a comparison" if other == changed else "" if other else " of a repair"
        stroke = found["keystroke_ms"]
        yield Row(
            f"filter keystroke to list{where}, 100,000 keys", f"{stroke:.0f} ms", "100 ms", stroke / 100, 1.0, 0.3
        )
    probe = Path(__file__).with_name("series_probe.py")
    for name, run in (("2,000 files", files.run(folder, 2_000, 64)), ("100,000 keys", files.run(folder, 12, 100_000))):
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        output = subprocess.check_output([sys.executable, str(probe), str(run)], env=environment)
        told = json.loads(output.splitlines()[-1])
        for phase, computed in told["most"].items():
            ours = f"{computed:.0f} ms of {told['worst'][phase]:.0f}"
            yield Row(f"most computed in a gap, series of {name}: {phase}", ours, "50 ms", computed / 50, 1.0, 0.32)


def plots(folder: Path) -> Iterator[Row]:
    """One tensor of 16 M elements in the window: how soon it is seen, and the event loop's gaps."""
    path = folder / "plots.pth"
    subprocess.run([sys.executable, "-c", SIXTEEN_MILLION, str(path)], check=True)
    probe = Path(__file__).with_name("tensor_probe.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    found = json.loads(
        subprocess.check_output([sys.executable, str(probe), str(path)], env=environment).splitlines()[-1]
    )
    for what, field, limit in (
        ("16 M elements selected to its first plot", "first_again_ms", 300),
        ("  the first time in a window", "first_ms", 300),
        ("  to distribution and heatmap of all values", "exact_again_ms", 1500),
        ("  the first time in a window", "exact_ms", 1500),
    ):
        yield Row(what, f"{found[field]} ms", f"{limit} ms", found[field] / limit, 1.0, 0.5)
    for phase, gap in found["worst"].items():
        yield Row(f"longest gap, 16 M elements: {phase}", f"{gap:.0f} ms", "50 ms", gap / 50, 1.0, 0.32)
    path.unlink()


def matching(folder: Path) -> Iterator[Row]:
    """Pairs of layouts with known truth: how much is found, how much of what is claimed is right, how fast."""
    pairs = known_pairs(folder)
    for name, mode, scores in matching_lines(pairs) if pairs else ():
        recall, precision = (
            sum(found) / len(scores) for found in zip(*[(s.recall, s.precision) for s in scores], strict=True)
        )
        slowest = max(one.seconds for one in scores)
        if name:
            said = f"recall {recall:.3f}, precision {precision:.3f}"
            yield Row(f"match {name[:32]}, {mode}", f"{slowest:.2f} s", said, slowest / 3, 1.0, 0.3)
            continue
        reach = {"registered": 0.995, "sorted": 0.98, "names only": 0.85, IN_TRAINING: 0.995}[mode]
        aim = {"registered": 0.999, "sorted": 0.99, "names only": 0.9, IN_TRAINING: 0.999}[mode]
        for what, value in (("recall", recall), ("precision", precision)):
            lost, allowed = 1 - value, 1 - reach
            against = f"{reach} of {len(scores)} pairs"
            yield Row(f"mean {what}, {mode}", f"{value:.4f}", against, lost / allowed, 1.0, (1 - aim) / allowed)
        wrong = sum(one.proved_wrong for one in scores)
        yield Row(f"proved and wrong, {mode}", str(wrong), "0", float(wrong), 0.0, 0.0)
    yield from fitting(pairs)


def fitting(pairs: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """The same pairs as steps: whether the steps say what was matched, in how many rules, and how fast all of it is."""
    counts = [fit_count(pair) for pair in pairs]
    for pair, one in zip(pairs, counts, strict=True):
        said = f"{one.kinds} kinds of keys"
        yield Row(f"rules of {pair['name'][:32]}", f"{one.rules} rules", said, one.rules / max(one.kinds, 1), 1.0, 0.5)
        yield Row(f"fit {pair['name'][:32]}", f"{one.seconds:.2f} s", "3 s", one.seconds / 3, 1.0, 0.3)
    if counts:
        unsaid = sum(one.unsaid for one in counts)
        yield Row(f"keys of {len(counts)} pairs that no step brings home", str(unsaid), "0", float(unsaid), 0.0, 0.0)


SECTIONS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "open": opening,
    "folders": folders,
    "stats": statistics,
    "compare": comparing,
    "save": saving,
    "window": window,
    "plots": plots,
    "matching": matching,
}


def main(names: list[str]) -> None:
    """Run the sections that are named, or all."""
    for name in names:
        if name not in SECTIONS:
            sys.exit(f"{name}: not one of {', '.join(SECTIONS)}")
    folder = Path(tempfile.mkdtemp(prefix="sdviewer-bench-"))
    head = ("what", "ours", "against", "ratio", "reach", "aim")
    print(f"{head[0]:<52}{head[1]:>12}  {head[2]:<26}{head[3]:>7}{head[4]:>8}  {head[5]}")
    try:
        for name in names or list(SECTIONS):
            for row in SECTIONS[name](folder):
                cells = row.cells()
                print(f"{cells[0]:<52}{cells[1]:>12}  {cells[2]:<26}{cells[3]:>7}{cells[4]:>8}  {cells[5]}", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
