from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
import numpy as np
import sdviewer.stats.histogram, sdviewer.stats.slices, sdviewer.stats.digest
assert "numba" not in sys.modules and "torch" not in sys.modules
from sdviewer.core.tensor_bytes import TensorLayout
class Zeros:
    nbytes = 64 << 20
    def read_into(self, start, buffer):
        pass
def measure(elements):
    layout = TensorLayout("float32", (elements,), (1,), 0)
    return sdviewer.stats.histogram.summary_and_histogram(Zeros(), layout)[0].count
if sys.argv[1] == "large":
    measure(100_000)
    assert "numba" not in sys.modules
    print(measure(16 << 20))
else:
    for _ in range(8):
        measure(1 << 20)
    assert "numba" not in sys.modules
    print(measure(1 << 20) * 16)
    assert "numba" in sys.modules
assert "torch" not in sys.modules
"""


def run_in(folder: Path, what: str = "large") -> str:
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment |= {"XDG_CACHE_HOME": str(folder), "HOME": str(folder), "LOCALAPPDATA": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, what],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    ).stdout


def test_that_numba_waits_for_a_large_tensor_and_keeps_what_it_compiled(tmp_path: Path) -> None:
    assert run_in(tmp_path).strip() == str(16 << 20)
    compiled = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    assert len(compiled) >= 2
    run_in(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")} == compiled


WARM = """
import numpy as np
from sdviewer.core.tensor_bytes import TensorLayout
from sdviewer.stats import kernels
from sdviewer.stats.histogram import summary_and_histogram
from sdviewer.stats.warm_up import warm_up
class Ramp:
    nbytes = 20 << 20
    def read_into(self, start, buffer):
        buffer[:] = np.linspace(-1, 1, len(buffer) // 4, dtype=np.float32).tobytes()
def compiled():
    loops = kernels.loaded()
    return {name: getattr(loops, name).signatures for name in loops.__slots__}
warm_up()
before = compiled()
for dtype, n in (("float32", 5 << 20), ("bfloat16", 10 << 20), ("float32", 1 << 18)):
    summary_and_histogram(Ramp(), TensorLayout(dtype, (n,), (1,), 0))
assert compiled() == before
"""


def test_that_nothing_is_left_to_load_after_warming_up() -> None:
    subprocess.run([sys.executable, "-c", WARM], check=True, timeout=300)


def test_that_many_small_tensors_are_worth_numba_too(tmp_path: Path) -> None:
    assert run_in(tmp_path, "small").strip() == str(16 << 20)


def test_that_a_cache_folder_that_cannot_be_made_does_not_stop_the_work(tmp_path: Path) -> None:
    (tmp_path / "sdviewer").write_text("in the way")
    assert run_in(tmp_path).strip() == str(16 << 20)
