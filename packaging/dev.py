#!/usr/bin/env python3
"""Everything a fresh clone needs, in one command: `run` opens the window, `test` checks everything.

    python3 packaging/dev.py run [FILE ...]        open the window (or any other sdviewer command line)
    python3 packaging/dev.py test [PYTEST OPTION]  lint, format, types, import contracts, tests
    python3 packaging/dev.py bench                 the budgets, as ratios of one run
    python3 packaging/dev.py corpus DIR            read a folder that has an expected.json, report agreement
    python3 packaging/dev.py gate [DIR]            what takes longer: test, wheel, bench, damaged inputs, faults, corpus
    python3 packaging/dev.py screenshots           draw the pictures of the documentation

Each first makes sure of the set-up: system libraries (apt, as root; else it prints the line to run), `.venv`, the
packages of pyproject.toml with a CPU-only torch. A stamp makes the second call start at once. Standard library only,
because it runs before anything is installed; it works from a bare Python 3.11 on Debian 12.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
CONSTRAINTS = ROOT / "packaging" / "constraints-cpu.txt"
OLDEST_PYTHON = (3, 11)

# What Qt's wheel links or opens but does not bring: soname -> Debian package. Each was found by leaving it out.
QT_LIBRARIES = {
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libxkbcommon.so.0": "libxkbcommon0",
}
# An incomplete X11 plug-in ends the process with SIGABRT, not with an exception: so ask before Qt does.
WINDOW_LIBRARIES = {
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libwayland-cursor.so.0": "libwayland-cursor0",
    "libwayland-egl.so.1": "libwayland-egl1",
}
# The double-click test has a desktop of its own: a virtual screen, a window manager, a file manager, a hand.
DESKTOP_PROGRAMS = {
    "Xvfb": "xvfb",
    "xauth": "xauth",
    "openbox": "openbox",
    "pcmanfm": "pcmanfm",
    "xdotool": "xdotool",
    "dbus-run-session": "dbus",
    "update-mime-database": "shared-mime-info",
    "update-desktop-database": "desktop-file-utils",
    "gio": "libglib2.0-bin",
}


class SetupError(Exception):
    """The set-up cannot go on; the text says what to do."""


def say(text: str) -> None:
    """Print one line of our own at once, so that it keeps its place among the output of child processes."""
    print(f"dev.py: {text}", flush=True)


# System libraries


def _loads(soname: str) -> bool:
    try:
        ctypes.CDLL(soname)
    except OSError:
        return False
    return True


def missing_packages(libraries: Mapping[str, str], programs: Mapping[str, str]) -> dict[str, str]:
    """What this machine lacks: soname or program -> Debian package."""
    missing = {soname: package for soname, package in libraries.items() if not _loads(soname)}
    missing |= {program: package for program, package in programs.items() if shutil.which(program) is None}
    if importlib.util.find_spec("ensurepip") is None:
        missing["venv"] = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    return missing


def install_system_packages(libraries: Mapping[str, str], programs: Mapping[str, str]) -> None:
    """Install what is missing when root and on apt.

    Raises:
        SetupError: something is missing and this process may not or cannot install it.
    """
    missing = missing_packages(libraries, programs)
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise SetupError("this system lacks " + ", ".join(missing) + "; install them with its own package manager")
    packages = sorted(set(missing.values()))
    root = os.geteuid() == 0
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if root:
        subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False)
    # Debian 13 and Ubuntu 24.04 call it libglib2.0-0t64 since time_t has 64 bits.
    if "libglib2.0-0" in packages and _apt_knows("libglib2.0-0t64"):
        packages[packages.index("libglib2.0-0")] = "libglib2.0-0t64"
    if not root:
        line = "sudo apt-get install -y --no-install-recommends " + " ".join(packages)
        raise SetupError(
            f"this system lacks {', '.join(missing)}. Run this line, then the same command again:\n\n    {line}\n"
        )
    say("installing " + " ".join(packages))
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode:
        raise SetupError("apt-get failed, see above: " + " ".join(command))
    importlib.invalidate_caches()  # ensurepip has just appeared in a folder that this Python has already listed
    left = missing_packages(libraries, programs)
    if left:
        raise SetupError("apt-get succeeded, yet these are still missing: " + ", ".join(left))


def _apt_knows(package: str) -> bool:
    command = ["apt-cache", "show", "--quiet", package]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


# The virtual environment


def tool(name: str) -> str:
    """The path of a program of the virtual environment."""
    if os.name == "nt":
        return str(VENV / "Scripts" / f"{name}.exe")
    return str(VENV / "bin" / name)


def _stamp() -> str:
    # The kind of Python, not its whole version: installing python3-venv may just have brought a newer patch release.
    digest = hashlib.sha256(f"{sys.implementation.cache_tag} {sys.platform} {ROOT}".encode())
    for path in (ROOT / "pyproject.toml", CONSTRAINTS, Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def make_environment() -> None:
    """Bring `.venv` up to what pyproject.toml says, unless the stamp says that it is.

    Raises:
        SetupError: the packages could not be installed; nothing that needs CUDA was.
    """
    stamp_file = VENV / "sdviewer.stamp"
    stamp = _stamp()
    if stamp_file.is_file() and stamp_file.read_text() == stamp and Path(tool("sdviewer")).is_file():
        return
    started = time.monotonic()
    stamp_file.unlink(missing_ok=True)
    if not _same_python(tool("python")):
        say(f"making {VENV}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    say("installing sdviewer and its packages, torch without CUDA (the first time this takes a minute or two)")
    what = ["-c", str(CONSTRAINTS), "-e", f"{ROOT}[dev]"]
    pip = [tool("python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if subprocess.run([*pip, *what], check=False).returncode:
        _install_with_uv(pip, what)
    # uv leaves no byte code, and neither does PYTHONDONTWRITEBYTECODE: torch would compile itself at every start.
    subprocess.run([tool("python"), "-m", "compileall", "-q", str(ROOT / "sdviewer")], check=True)
    stamp_file.write_text(stamp)
    say(f"ready after {time.monotonic() - started:.0f} s")


def _same_python(python: str) -> bool:
    """Whether `python` works and is of the kind of this one (cpython-311); a moved or older `.venv` is not."""
    ask = [python, "-c", "import sys; print(sys.implementation.cache_tag)"]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return False
    return answer.strip() == sys.implementation.cache_tag


def _install_with_uv(pip: Sequence[str], what: Sequence[str]) -> None:
    """uv knows where PyTorch keeps its CPU builds; pip's own index has none for Linux."""
    say("pip could not (see above); trying uv, which knows where PyTorch keeps its CPU builds")
    if subprocess.run([*pip, "uv"], check=False).returncode:
        raise SetupError("neither the packages nor uv could be installed: is there a network?")
    uv = [tool("uv"), "pip", "install", "--python", tool("python"), "--compile-bytecode", "--torch-backend", "cpu"]
    if subprocess.run([*uv, *what], check=False).returncode:
        raise SetupError(
            "the packages could not be installed (see above). torch is wanted as a CPU build only, "
            f"as {CONSTRAINTS.relative_to(ROOT)} says; nothing else was taken in its place."
        )


# Commands


def _offscreen() -> dict[str, str]:
    """An environment in which Qt draws into memory. WAYLAND_DISPLAY would beat DISPLAY, so it goes."""
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    environment.pop("WAYLAND_DISPLAY", None)
    return environment


def _steps(steps: Sequence[tuple[str, Callable[[], int]]], name: str) -> int:
    """Run every step, whatever the others did, and say once how it went."""
    started = time.monotonic()
    failed = []
    for title, step in steps:
        print(f"\n== {title}", flush=True)
        if step():
            failed.append(title)
    seconds = time.monotonic() - started
    passed = len(steps) - len(failed)
    print(flush=True)
    say(f"{name}: {passed} of {len(steps)} steps passed in {seconds:.0f} s" + "".join(f"; FAILED: {f}" for f in failed))
    return 1 if failed else 0


def run(arguments: Sequence[str]) -> int:
    """Start sdviewer with `arguments`; it takes the place of this process where the system can do that."""
    headless = "--screenshot" in arguments
    install_system_packages(linux(QT_LIBRARIES if headless else QT_LIBRARIES | WINDOW_LIBRARIES), {})
    make_environment()
    environment = _offscreen() if headless else dict(os.environ)
    # The script, not `python -m`: the window class would become "__main__.py".
    command = [tool("sdviewer"), *arguments]
    if os.name == "posix":
        sys.stdout.flush()
        os.execve(command[0], command, environment)
    return subprocess.run(command, env=environment, check=False).returncode


def test(arguments: Sequence[str]) -> int:
    """Lint, format, types, import contracts and tests; `arguments` go to pytest."""
    install_system_packages(linux(QT_LIBRARIES | WINDOW_LIBRARIES), linux(DESKTOP_PROGRAMS))
    make_environment()
    with tempfile.TemporaryDirectory(prefix="sdviewer-test-") as runtime:  # mode 0700, as D-Bus and Qt want it
        environment = {**_offscreen(), "XDG_RUNTIME_DIR": runtime}

        def step(*command: str) -> Callable[[], int]:
            return lambda: subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode

        return _steps(
            (
                ("ruff check", step(tool("ruff"), "check")),
                ("ruff format --check", step(tool("ruff"), "format", "--check")),
                ("mypy", step(tool("mypy"))),
                ("lint-imports", step(tool("lint-imports"))),
                # By files: those of the window share what is costly to make.
                ("pytest", step(tool("python"), "-m", "pytest", "-n", "auto", "--dist", "loadfile", *arguments)),
            ),
            "test",
        )


def _python(script: str, arguments: Sequence[str]) -> int:
    command = [tool("python"), str(ROOT / script), *arguments]
    return subprocess.run(command, env=_offscreen(), check=False).returncode


def bench(arguments: Sequence[str]) -> int:
    """Print every budget of docs/benchmarks.md as a ratio measured in this run."""
    install_system_packages(linux(QT_LIBRARIES), {})
    make_environment()
    return _python("tests/benchmarks/run.py", arguments)


def corpus(arguments: Sequence[str]) -> int:
    """Run the readers over a folder that has an expected.json and report where they agree."""
    install_system_packages(linux(QT_LIBRARIES), {})
    make_environment()
    return _python("packaging/corpus.py", arguments)


def screenshots(arguments: Sequence[str]) -> int:
    """Draw docs/images/*.png anew."""
    install_system_packages(linux(QT_LIBRARIES), {})
    make_environment()
    return _python("packaging/screenshots.py", arguments)


def gate(arguments: Sequence[str]) -> int:
    """What takes longer than `test`: wheel, budgets, 200,000 damaged inputs, failing disks, sums, proofs, a corpus."""
    steps: list[tuple[str, Callable[[], int]]] = [
        ("test", lambda: test([])),
        ("wheel", _try_wheel),
        ("bench", lambda: bench([])),
        ("damaged inputs", _damaged_inputs),
        ("faults of saving", _saving_faults),
        ("statistics", _statistics_checked),
        ("proofs of matching", _proofs_checked),
    ]
    steps += [(f"corpus {folder}", functools.partial(corpus, [folder])) for folder in arguments]
    return _steps(steps, "gate")


DAMAGED_INPUTS = 200_000
FUZZ_SECONDS = 60
"""Seconds for each target of the fuzzer."""


def _damaged_inputs() -> int:
    """Give the readers damaged inputs, the worst ones by design, and what a fuzzer thinks of; print the figures."""
    environment = {**_offscreen(), "PYTHONPATH": str(ROOT)}

    def run_module(module: str, *arguments: str) -> str | None:
        command = [tool("python"), "-W", "ignore", "-P", "-m", f"tests.hostility.{module}", *arguments]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        return done.stdout if done.returncode == 0 else None

    seed = str(int(time.time()))
    answers = (run_module("mutations", str(DAMAGED_INPUTS), seed), run_module("bombs"))
    if None in answers:
        return 1
    mutated, bombs = (json.loads(answer or "") for answer in answers)
    ends = {name: found["end"] for name, found in bombs["bombs"].items()}
    bad = [f"{name}: {end}" for name, end in ends.items() if end.startswith(("died", "failed", "out of"))]
    slowest = max(bombs["bombs"].items(), key=lambda item: float(item[1]["seconds"]))
    largest = max(bombs["bombs"].items(), key=lambda item: float(item[1]["rss"]))
    grown = (largest[1]["rss"] - bombs["base"]) / 2**20
    say(
        f"{mutated['inputs']:,} damaged inputs (seed {seed}) in {mutated['seconds']:.0f} s, "
        f"{len(mutated['failures'])} failures, worst {mutated['worst_seconds']:.2f} s, "
        f"{mutated['grown'] / 2**20:.0f} MiB more memory in all, {mutated['executions']} executions"
    )
    say(f"{len(ends)} worst inputs by design, {len(bad)} failures")
    say(f"the slowest: {slowest[1]['seconds']:.1f} s for {slowest[1]['size']:,} bytes ({slowest[0]})")
    say(f"the largest: {grown:.0f} MiB for {largest[1]['size']:,} bytes ({largest[0]})")
    for executed in mutated["executed"]:
        say(f"EXECUTED: {executed}")
    for failure in [*(f"{f['target']}: {f['error']} {f['data'][:2000]}" for f in mutated["failures"]), *bad]:
        say("FAILED: " + failure)
    targets = ("directory", "pickle", "legacy", "safetensors", "tensors")
    with tempfile.TemporaryDirectory(prefix="sdviewer-fuzz-") as folder:  # the fuzzer leaves what it found there
        fuzz = [tool("python"), "-W", "ignore", "-P", "-m", "tests.hostility.fuzz"]
        fuzzed = [
            subprocess.run([*fuzz, target, f"-max_total_time={FUZZ_SECONDS}"], cwd=folder, env=environment, check=False)
            for target in targets
        ]
    return 1 if mutated["failures"] or mutated["executions"] or bad or any(done.returncode for done in fuzzed) else 0


def _statistics_checked() -> int:
    """Compare the statistics of large tensors of every type with sums in twice their precision."""
    command = [tool("python"), "-W", "ignore", "-P", "-m", "tests.stats.reference"]
    return subprocess.run(command, env={**_offscreen(), "PYTHONPATH": str(ROOT)}, check=False).returncode


MADE_PAIRS = 10_000


def _proofs_checked() -> int:
    """Match made pairs of tables of which the truth is known; nothing that is called proved may be wrong."""
    command = [tool("python"), "-P", "-m", "tests.benchmarks.matching_proofs", str(MADE_PAIRS), str(int(time.time()))]
    return subprocess.run(command, env={**_offscreen(), "PYTHONPATH": str(ROOT)}, check=False).returncode


def _saving_faults() -> int:
    """Do to a save what disks, kernels and power cuts do, and print the table of what came of it."""
    environment = {**_offscreen(), "PYTHONPATH": str(ROOT)}
    command = [tool("python"), "-W", "ignore", "-P", "-m", "tests.faults.gate"]
    return subprocess.run(command, env=environment, check=False).returncode


def _try_wheel() -> int:
    """Build the wheel, install it beside nothing of the clone, and draw a picture with it from another folder."""
    pip = [tool("python"), "-m", "pip", "--disable-pip-version-check", "-q"]
    with tempfile.TemporaryDirectory(prefix="sdviewer-wheel-") as name:
        folder = Path(name)
        site = folder / "site"
        environment = {**_offscreen(), "PYTHONPATH": str(site), "XDG_RUNTIME_DIR": name}
        where = "import sdviewer, sys; sys.exit(not sdviewer.__file__.startswith(sys.argv[1]))"
        sdviewer = [tool("python"), "-m", "sdviewer"]
        sample = str(folder / "sample.pth")
        make_sample = "import torch, sys; torch.save({'fc.weight': torch.ones(4, 3)}, sys.argv[1])"
        commands = (
            [*pip, "wheel", "--no-deps", "-w", name, str(ROOT)],
            [*pip, "install", "--no-deps", "--no-index", "--find-links", name, "--target", str(site), "sdviewer"],
            [tool("python"), "-c", where, str(site)],
            [tool("python"), "-c", make_sample, sample],
            [*sdviewer, "--version"],
            [*sdviewer, "info", sample],
            [*sdviewer, "--screenshot", str(folder / "sample.png"), sample],
        )
        for command in commands:
            if subprocess.run(command, cwd=folder, env=environment, check=False).returncode:
                say("failed: " + " ".join(command))
                return 1
        return 0


def linux(needs: Mapping[str, str]) -> Mapping[str, str]:
    """`needs` on Linux, nothing elsewhere: the Windows and macOS wheels bring or find all they link."""
    return needs if sys.platform.startswith("linux") else {}


def _newer_python() -> str | None:
    """A Python on the search path that is new enough, the newest first."""
    names = [f"python3.{minor}" for minor in range(20, OLDEST_PYTHON[1] - 1, -1)]
    return next((path for path in map(shutil.which, names) if path), None)


COMMANDS: tuple[Callable[[Sequence[str]], int], ...] = (run, test, bench, corpus, gate, screenshots)


def main() -> int:
    """Dispatch; the exit code is the command's."""
    if sys.version_info < OLDEST_PYTHON:
        newer = _newer_python()
        if newer is None:
            say(f"sdviewer needs Python 3.11 or newer; this is {sys.version.split()[0]}, and no newer one was found")
            return 1
        return subprocess.call([newer, *sys.argv])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=[command.__name__ for command in COMMANDS])
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="handed on to the command")
    options = parser.parse_args()
    command = next(command for command in COMMANDS if command.__name__ == options.command)
    try:
        return command(options.arguments)
    except SetupError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
