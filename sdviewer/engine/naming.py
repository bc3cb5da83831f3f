"""The moment in which a file that was written gets its name: until then a cancel stops it, from then on it is done.

A worker that has written and checked a file asks before it names it: a frame `naming` with the file's identity. The
window answers `go`, and refuses every cancel from then on; or `cancel`, where somebody stopped the job before. So what
it tells is what is on the disk. Where the process ends between the two, the window looks whether the file is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from sdviewer.core.checkpoint import Identity
from sdviewer.core.progress import BeforeNaming, Progress, go_on

RECEIPT_LOST: Final[Mapping[str, Any]] = {
    "kind": "SaveError",
    "code": "receipt_lost",
    "message": "is there, complete and checked, but its receipt was lost",
    "remedy": "Save it again to get one.",
    "key": "",
    "details": "",
}
"""The failure of a job whose file has its name all the same; `path` and `identity` are added."""


def before_naming(progress: Progress) -> BeforeNaming:
    """What a handler gives a save, of the progress that it was given itself; `go_on` where that cannot ask."""
    ask: BeforeNaming = getattr(progress, "before_naming", go_on)
    return ask


def look(out: str, identity: Mapping[str, int]) -> Mapping[str, Any] | None:
    """`RECEIPT_LOST` where the file of this identity stands at `out`, else None. Touches the disk."""
    from sdviewer.formats.file import identity_of, same_file

    try:
        now = identity_of(Path(out).stat())
    except (OSError, ValueError):
        return None
    return {**RECEIPT_LOST, "path": out, "identity": asdict(now)} if same_file(now, Identity(**identity)) else None
