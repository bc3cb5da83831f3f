"""What a save did, and what was checked of it; never more than was checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sdviewer.core import text
from sdviewer.core.checkpoint import Identity
from sdviewer.repair.plan import PlanWarning

WEIGHTS_ONLY_NOT_TRIED = "weights_only_not_tried"
WEIGHTS_ONLY_REFUSED = "weights_only_refused"


@dataclass(frozen=True, slots=True)
class Verified:
    """The answers of the checks. `weights_only` and `target` are None where they were not tried."""

    keys: bool
    bits: bool
    sharing: bool
    weights_only: bool | None
    source_unchanged: bool
    target: bool | None = None


class WrittenFile(NamedTuple):
    """One file of a folder that was written; `size` in bytes."""

    name: str
    size: int
    sha256: str


class TakenFile(NamedTuple):
    """Another file that tensors were taken from, and how many entries of the result are made of its tensors."""

    file: str
    tensors: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """One save. A dry run has `output`, `sha256` and `verified` None.

    `written` counts the entries of the state dict in the result, `dropped` names those left out (and the dotted paths
    outside it that an unwrap leaves out), `map` has every source key
    (`repair.planning.key_map`). `size`, `copied_bytes` and `computed_bytes` are
    in bytes, `identity` is that of the file in its place, where it could be asked, `seconds_writing` ends when the
    bytes are on the disk. `checks` are sentences with numbers, one for each check that was made and held; `notes` say
    what the container made of the edit. `files` are those of a folder; then `sha256` is that of the list that
    `sha256sum` prints of them. `taken` are the other files that tensors come from.
    """

    output: str | None
    sha256: str | None
    written: int
    dropped: tuple[str, ...]
    map: Mapping[str, str | Mapping[str, str]]
    copied_bytes: int
    computed_bytes: int
    verified: Verified | None
    warnings: tuple[PlanWarning, ...]
    container: str
    size: int
    identity: Identity | None = None
    seconds_writing: float = 0.0
    seconds_verifying: float = 0.0
    checks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    files: tuple[WrittenFile, ...] = ()
    taken: tuple[TakenFile, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document of `repair --json`, and behind it what the window's receipt shows besides."""
        return {
            "output": self.output,
            "sha256": self.sha256,
            "written": self.written,
            "dropped": list(self.dropped),
            "map": dict(self.map),
            "copied_bytes": self.copied_bytes,
            "computed_bytes": self.computed_bytes,
            "verified": None if self.verified is None else _verified(self.verified),
            "warnings": [{"code": w.code, "keys": list(w.keys), "message": w.message} for w in self.warnings],
            "container": self.container,
            "size": self.size,
            "seconds_writing": round(self.seconds_writing, 3),
            "seconds_verifying": round(self.seconds_verifying, 3),
            "checks": list(self.checks),
            "notes": list(self.notes),
            "files": [one._asdict() for one in self.files],
            "taken": [one._asdict() for one in self.taken],
        }

    def lines(self) -> list[str]:
        """The same for a terminal."""
        renamed = sum(1 for source, target in self.map.items() if isinstance(target, str) and target != source)
        computed = sum(1 for to in self.map.values() if isinstance(to, Mapping) and to.get("op") not in ("drop", "tie"))
        done = f"{text.plural(self.written, 'entry', 'entries')}, {text.count(renamed)} renamed"
        done += f", {text.count(computed)} computed" if computed else ""
        done += f", {text.count(len(self.dropped))} left out; {text.size(self.size)}, {self.container}"
        taken = [
            f"  taken: {text.plural(one.tensors, 'tensor')} from {text.visible(one.file, 4000)}" for one in self.taken
        ]
        if self.verified is None:
            planned = [f"  as planned: {check}" for check in self.checks]
            return [f"Would write {done}. Nothing was written.", *taken, *planned, *self._warning_lines()]
        lines = [f"Saved {text.visible(self.output or '', 4000)}: {done}.", *taken]
        lines += [f"  checked: {check}" for check in self.checks]
        lines += [f"  note: {note}" for note in self.notes]
        return [*lines, f"  sha256: {self.sha256}", *self._warning_lines()]

    def _warning_lines(self) -> list[str]:
        return [f"warning: {text.visible(warning.message)}" for warning in self.warnings]


def _verified(verified: Verified) -> dict[str, bool | None]:
    return {
        "keys": verified.keys,
        "bits": verified.bits,
        "sharing": verified.sharing,
        "weights_only": verified.weights_only,
        "target": verified.target,
        "source_unchanged": verified.source_unchanged,
    }
