"""Every call that a save makes of the kernel, failed and killed by strace: no Python in between, as a disk does it.

`python -m tests.faults.kernel FOLDER SOURCE ...` prints one JSON document. A child waits until strace holds it, so that
only the calls of the save are counted. Needs strace, and the right to trace a child.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.faults.saves import PLACES, Scene
from tests.faults.system_calls import End, ended
from tests.faults.trials import Report

CALLS = (
    "openat,close,dup,fstat,newfstatat,stat,lstat,statx,statfs,readlink,getdents64,pread64,preadv,pwrite64,"
    "copy_file_range,sendfile,lseek,fsync,fallocate,flock,fchmod,fchown,flistxattr,listxattr,getxattr,fsetxattr,"
    "fremovexattr,link,linkat,unlink,unlinkat,rename,renameat,renameat2"
)
_ENDS = {0: "saved", 10: "refused", 11: "failed"}


def traced(scene: Scene, *options: str) -> End:
    """One save with strace at it."""
    go, let_go = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(go, 1)
        end = ended(scene.save)
        os._exit(next(code for code, how in _ENDS.items() if how == end.how))
    os.close(go)
    tracer = subprocess.Popen(["strace", "-p", str(child), *options], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    attached = "attached" in tracer.stderr.readline()
    os.write(let_go, b"x")
    os.close(let_go)
    _, status = os.waitpid(child, 0)
    tracer.communicate()
    if not attached:
        raise RuntimeError("strace may not trace a child here")
    return End("killed") if os.WIFSIGNALED(status) else End(_ENDS.get(os.WEXITSTATUS(status), "failed"))


def calls_of(scene: Scene, log: Path) -> list[str]:
    """The calls of a save without faults, in order."""
    scene.reset()
    traced(scene, "-e", f"trace={CALLS}", "-o", str(log))
    return re.findall(r"^(\w+)\(", log.read_text(errors="replace"), re.MULTILINE)


def try_each(scene: Scene, report: Report, log: Path) -> None:
    """Each call fails once with EIO and once with ENOSPC and is once the last; `report` says how the saves ended."""
    ordinals: Counter[str] = Counter()
    for name in calls_of(scene, log):
        ordinals[name] += 1
        for fault in ("error=EIO", "error=ENOSPC", "signal=KILL"):
            scene.reset()
            inject = f"inject={name}:{fault}:when={ordinals[name]}"
            end = traced(scene, "-e", f"trace={name}", "-e", inject, "-o", "/dev/null")
            what = f"{fault.partition('=')[2]} at {name} {ordinals[name]}"
            report.note(scene, what, end, ends="killed" if fault == "signal=KILL" else "")


def main() -> None:
    """`FOLDER SOURCE ...`."""
    _, folder, *sources = sys.argv
    report = Report()
    if shutil.which("strace") is None:
        sys.stdout.write(json.dumps({"not_run": "strace is not installed"}) + "\n")
        return
    for source in map(Path, sources):
        for place in PLACES:
            scene = Scene(Path(folder) / source.stem / place, source, place)
            try:
                try_each(scene, report, Path(folder) / "log")
            except RuntimeError as error:
                sys.stdout.write(json.dumps({"not_run": str(error)}) + "\n")
                return
    sys.stdout.write(json.dumps({"saves": report.saves, "ends": report.ends, "wrong": report.wrong}) + "\n")


if __name__ == "__main__":
    main()
