"""Saving an edited copy: lay it out, write it beside its target, read it back, and only then put it in place.

Law: the source is never written, and OUT is never an input. Whatever goes wrong, at OUT there is what was there before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path

from sdviewer.core.checkpoint import Checkpoint, Identity
from sdviewer.core.collector import collector_off
from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.text import visible
from sdviewer.errors import KeyCollision, RepairError, SaveError, SDViewerError, UnsupportedContainer, UsageError
from sdviewer.formats.evaluation import Evaluation
from sdviewer.formats.file import File, identity_of, opened, same_file
from sdviewer.formats.opening import open_checkpoint
from sdviewer.formats.pieces import Copy, Layout, Made, check_new_bytes, computed, copied, total, write_pieces
from sdviewer.formats.receipt import WEIGHTS_ONLY_NOT_TRIED, WEIGHTS_ONLY_REFUSED, Receipt, Verified
from sdviewer.formats.save_safetensors import lay_out_safetensors
from sdviewer.formats.save_torch_legacy import lay_out_torch_legacy
from sdviewer.formats.save_torch_zip import lay_out_torch_zip
from sdviewer.formats.temporary import Loss, Replacing, TemporaryFile, refuse_existing, temporary_file
from sdviewer.formats.torch_check import TorchCheck, Verdict
from sdviewer.formats.torch_clean import Cleaning, settle
from sdviewer.formats.torch_computed import ComputedTensors
from sdviewer.formats.torch_edits import edits_of
from sdviewer.formats.torch_source import TorchLegacySource, TorchSource, TorchZipSource
from sdviewer.formats.verify import Proof, is_edited, verify
from sdviewer.formats.zip_directory import STORED
from sdviewer.pickles.emit import Edits
from sdviewer.repair.plan import Computed, Plan, PlanWarning
from sdviewer.repair.planning import key_map

CONTAINERS_OF_SUFFIX: Mapping[str, tuple[str, ...]] = {
    ".safetensors": ("safetensors",),
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".th", ".tar", ".bin", ".pkl"), ("torch-zip", "torch-legacy")),
}
"""What a file name promises; the first is what a conversion would write."""


def save(
    checkpoint: Checkpoint,
    plan: Plan,
    out: str | PathLike[str],
    *,
    container: str | None = None,
    default_container: str | None = None,
    overwrite: bool = False,
    split_names: bool = True,
    replaces: Identity | None = None,
    dry_run: bool = False,
    inputs: Iterable[str] = (),
    ask_torch: bool = True,
    progress: Progress = no_progress,
) -> Receipt:
    """Write `checkpoint` as `plan` says to `out`, and prove it; with `dry_run` only say what would be written.

    `container` is what was asked for, `default_container` what a recipe says when neither that nor the suffix of `out`
    decides. `overwrite`: a file at `out` may be replaced; with `split_names` also one that has hard links (they keep
    the old bytes), with `replaces` only that one in that state. `inputs` are further files that `out` must not be.
    `ask_torch`: let a child process load the result.
    `progress` counts bytes: written, then read back.

    Raises:
        UsageError: `out` is an input, or there is no such container.
        UnsupportedContainer: a conversion that is not built yet.
        RepairError: the plan cannot be carried out on this file.
        SaveError: it could not be written or did not verify; at `out` is what was there before.
        Cancelled: from `progress`; likewise.
    """
    name = fspath(out)
    chosen = _choose_container(checkpoint, name, container, default_container)
    _refuse_input(name, checkpoint, inputs)
    replacing = Replacing(overwrite, split_names, replaces)
    refuse_existing(name, replacing)
    with collector_off(), _named(checkpoint.path), opened(checkpoint.path) as source:
        if source.identity != checkpoint.identity:
            raise _source_changed(checkpoint.path)
        plan, cleaning = settle(checkpoint, plan)
        edited = edit(checkpoint, plan, cleaning)
        layout = _lay_out(source, checkpoint, edited)
        if dry_run:
            return _receipt(plan, checkpoint, chosen, layout)
        saving = _Saving(checkpoint, edited, source, layout, name, ask_torch, progress)
        return saving.run(chosen, replacing)


@dataclass(frozen=True, slots=True)
class Edited:
    """A plan as the writers want it: `edits` of the object pickle, what a clean copy leaves out, what is computed."""

    plan: Plan
    edits: Edits
    cleaning: Cleaning | None
    evaluation: Evaluation
    computed: ComputedTensors

    def made(self) -> dict[str, Made]:
        """What was computed, by the storages of the written file."""
        if isinstance(self.evaluation.checkpoint.source, TorchSource):
            return {key: storage.made for key, storage in self.computed.storages.items()}
        targets = self.plan.targets
        return {t.key: self.evaluation.made(t.value) for t in targets if isinstance(t.value, Computed)}


class _Saving:
    """One save under way."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        edited: Edited,
        source: File,
        layout: Layout,
        out: str,
        ask_torch: bool,
        progress: Progress,
    ) -> None:
        self.checkpoint = checkpoint
        self.edited = edited
        self.plan = edited.plan
        self.source = source
        self.layout = layout
        self.out = out
        self.ask_torch = ask_torch
        self.size = total(layout.pieces)
        self.progress = progress

    def run(self, container: str, replacing: Replacing) -> Receipt:
        with temporary_file(self.out, nbytes=self.size, replacing=replacing) as temporary:
            started = time.monotonic()
            self._write(temporary)
            written = time.monotonic()
            proof, verdict = self._verify(temporary)
            unchanged = self._source_unchanged()
            verified = time.monotonic()
            self._tell(self.size, self.size)
            temporary.put_in_place()
            return _receipt(
                self.plan,
                self.checkpoint,
                container,
                replace(self.layout, notes=(*self.layout.notes, *self.edited.evaluation.notes)),
                output=self.out,
                identity=temporary.identity,
                proof=proof,
                verified=Verified(True, True, True, verdict.loads, unchanged),
                warnings=(*_torch_warning(verdict), *_left_over(temporary.losses)),
                seconds=(written - started, verified - written),
                checks=_last_checks(verdict, unchanged),
            )

    def _write(self, temporary: TemporaryFile) -> None:
        try:
            write_pieces(self.layout.pieces, self.source.fd, temporary.fd, lambda done, _: self._tell(done, 0))
        except OSError as error:
            raise temporary.error(error) from error
        temporary.sync()

    def _verify(self, temporary: TemporaryFile) -> tuple[Proof, Verdict]:
        path = temporary.readable_path
        check = self._start_torch(temporary)
        try:
            with opened(path) as file:
                check_new_bytes(self.layout.pieces, file)
                again = open_checkpoint(path, progress=lambda *_: self._tell(self.size, 0))
                files = (self.source, file)
                proof = verify(
                    self.checkpoint,
                    self.plan,
                    self.edited.edits,
                    files,
                    again,
                    lambda done, _: self._tell(self.size, done),
                    self.edited.cleaning,
                    evaluation=self.edited.evaluation,
                    made=self.edited.made(),
                )
            while check is not None and not check.finished():
                self._tell(self.size, self.size)
            return proof, check.verdict() if check is not None else Verdict(None, self._why_no_torch())
        except SaveError as error:
            error.path = self.out
            raise
        except SDViewerError as error:
            raise SaveError(
                f"the written file cannot be read back: {error.message}", path=self.out, code="not_verified"
            ) from error
        finally:
            if check is not None:
                check.stop()

    def _start_torch(self, temporary: TemporaryFile) -> TorchCheck | None:
        """torch's own loader, started now so that it works while the bytes are compared."""
        source = self.checkpoint.source
        if not self.ask_torch or not isinstance(source, TorchSource):
            return None
        # A mapped load of a compressed record shows its compressed bytes as numbers.
        mapped = isinstance(source, TorchZipSource) and all(entry.method == STORED for entry in source.records.values())
        return TorchCheck(temporary.readable_path, temporary.fd, mapped=mapped, nbytes=self.size)

    def _why_no_torch(self) -> str:
        return "a safetensors file holds no pickle" if self.ask_torch else "it was not asked for"

    def _source_unchanged(self) -> bool:
        """Whether the source is still the file it was, by name and by content.

        Raises:
            SaveError: its content changed while it was copied.
        """
        status = os.fstat(self.source.fd)
        now = identity_of(status)
        # The time of the content can be set back, that of the status cannot; to lose the last name changes that alone.
        if now != self.source.identity and not (same_file(now, self.source.identity) and status.st_nlink == 0):
            raise _source_changed(self.checkpoint.path)
        return _identity_at(self.checkpoint.path) == self.source.identity

    def _tell(self, written: int, read_back: int) -> None:
        self.progress(written + read_back, 2 * self.size)


def _choose_container(checkpoint: Checkpoint, out: str, container: str | None, default: str | None) -> str:
    """What to write: what was asked for, else what the suffix says, else the recipe, else the source's own."""
    own = checkpoint.container
    if own not in LAYOUTS:
        raise UnsupportedContainer(f"{own} files can be read and not written", path=checkpoint.path)
    known = [name for names in CONTAINERS_OF_SUFFIX.values() for name in names]
    for name in (container, default):
        if name is not None and name not in known:
            raise UsageError(f"there is no container {name}", remedy=f"One of {', '.join(sorted(set(known)))}.")
    by_suffix = CONTAINERS_OF_SUFFIX.get(Path(out).suffix.lower(), ())
    if container is None and own in by_suffix:
        return own
    chosen = container or next(iter(by_suffix), None) or default or own
    if chosen != own:
        raise UnsupportedContainer(
            f"writing a {own} file as {chosen} is not built yet",
            path=checkpoint.path,
            remedy=f"Save it as {own}.",
        )
    return chosen


def _refuse_input(out: str, checkpoint: Checkpoint, inputs: Iterable[str]) -> None:
    """OUT may not be a file that goes into the save, under whatever name."""
    there = _identity_at(out)
    if there is None:
        return
    for path in (checkpoint.path, *inputs):
        other = _identity_at(path)
        if other is not None and (other.device, other.inode) == (there.device, there.inode):
            raise UsageError(
                "the output is an input, and inputs are never written", path=out, remedy="Choose another name."
            )
    if (there.device, there.inode) == (checkpoint.identity.device, checkpoint.identity.inode):
        raise UsageError("the output is the file that was opened", path=out, remedy="Choose another name.")


def edit(checkpoint: Checkpoint, plan: Plan, cleaning: Cleaning | None = None) -> Edited:
    """What a plan changes in the file, before any byte moves.

    Raises:
        RepairError: it cannot be carried out on this file.
        SaveError: the object pickle cannot be written back.
    """
    source, evaluation = checkpoint.source, Evaluation(checkpoint, plan)
    computed = ComputedTensors(evaluation, legacy=isinstance(source, TorchLegacySource))
    edits = Edits()
    if isinstance(source, TorchSource):
        edits = edits_of(checkpoint, source, plan, computed, cleaning)
    elif plan.changes_file:
        raise RepairError(
            f"a {checkpoint.container} file holds nothing beside its tensors that could be changed",
            path=checkpoint.path,
            remedy="Take the step out of the recipe.",
        )
    return Edited(plan, edits, cleaning, evaluation, computed)


def _lay_out(file: File, checkpoint: Checkpoint, edited: Edited) -> Layout:
    if not is_edited(checkpoint, edited.plan):
        return Layout([Copy(0, file.size)])
    _refuse_collisions(checkpoint, edited.plan)
    layout = LAYOUTS[checkpoint.container](file, checkpoint, edited)
    return Layout(layout.pieces, (*layout.notes, *_lost_versions(checkpoint, edited.plan)))


def _refuse_collisions(checkpoint: Checkpoint, plan: Plan) -> None:
    """A key that stands twice in the source may stay so; an edit may not make one."""
    if plan.state_dict is None:
        return
    old = checkpoint.state_dicts[plan.state_dict].keys
    made = {target.key for target in plan.targets if target.entry is None or target.key != old[target.entry]}
    seen: set[str] = set()
    for target in plan.targets:
        if target.key in seen and target.key in made:
            raise KeyCollision(f"two entries would be called {visible(target.key)}", key=target.key)
        seen.add(target.key)


def _lost_versions(checkpoint: Checkpoint, plan: Plan) -> list[str]:
    """What becomes of a state dict's `_metadata` when its entries stand among others: the root has no place for it."""
    source = checkpoint.source
    if not (plan.keep_rest and plan.state_dict is not None and isinstance(source, TorchSource)):
        return []
    mapping = source.mappings[plan.state_dict]
    if mapping.parent is None or mapping.metadata is None:
        return []
    return ["_metadata, the versions of its modules, left out: it belongs to the state dict alone, not to the whole"]


LAYOUTS: Mapping[str, Callable[[File, Checkpoint, Edited], Layout]] = {
    "torch-zip": lambda file, checkpoint, edited: lay_out_torch_zip(
        *(file, checkpoint.source, edited.edits, checkpoint.tensors),
        computed=edited.computed,
        cleaning=edited.cleaning,
    ),
    "torch-legacy": lambda file, checkpoint, edited: lay_out_torch_legacy(
        file, checkpoint.source, edited.edits, computed=edited.computed, clean=edited.cleaning is not None
    ),
    "safetensors": lambda file, checkpoint, edited: lay_out_safetensors(
        file, checkpoint, checkpoint.source, edited.plan, edited.evaluation
    ),
}
"""How each container that can be written is laid out: a new one is one new file and one line here."""


def _receipt(
    plan: Plan,
    checkpoint: Checkpoint,
    container: str,
    layout: Layout,
    *,
    output: str | None = None,
    identity: Identity | None = None,
    proof: Proof | None = None,
    verified: Verified | None = None,
    warnings: Iterable[PlanWarning] = (),
    seconds: tuple[float, float] = (0.0, 0.0),
    checks: Iterable[str] = (),
) -> Receipt:
    keys = () if plan.state_dict is None else checkpoint.state_dicts[plan.state_dict].keys
    return Receipt(
        output=output,
        sha256=proof.sha256 if proof else None,
        written=len(plan.targets) if plan.state_dict is not None else len(checkpoint.tensors),
        dropped=(*(keys[entry] for entry in plan.dropped), *plan.left_out),
        map=key_map(plan, checkpoint),
        copied_bytes=copied(layout.pieces),
        computed_bytes=computed(layout.pieces),
        verified=verified,
        warnings=(*plan.warnings, *warnings),
        container=container,
        size=total(layout.pieces),
        seconds_writing=seconds[0],
        seconds_verifying=seconds[1],
        checks=(*proof.checks, *checks) if proof else (),
        notes=layout.notes,
        identity=identity,
    )


def _last_checks(verdict: Verdict, unchanged: bool) -> list[str]:
    checks = []
    if verdict.loads:
        checks.append('torch.load(weights_only=True, map_location="cpu") opens it')
    if unchanged:
        checks.append("the source is the file it was: same inode, size and times")
    return checks


def _torch_warning(verdict: Verdict) -> list[PlanWarning]:
    if verdict.loads:
        return []
    if verdict.loads is None:
        return [
            PlanWarning(WEIGHTS_ONLY_NOT_TRIED, (), f"torch.load(weights_only=True) was not tried: {verdict.reason}")
        ]
    return [PlanWarning(WEIGHTS_ONLY_REFUSED, (), f"torch.load(weights_only=True) refuses it: {verdict.reason}")]


def _left_over(losses: Iterable[Loss]) -> list[PlanWarning]:
    return [PlanWarning(loss.code, (), loss.message) for loss in losses]


def _source_changed(path: str) -> SaveError:
    return SaveError(
        "it was changed on disk after it was opened",
        path=path,
        remedy="Open it again; the recipe can be applied to it as it is now.",
        code="file_changed",
    )


def _identity_at(path: str) -> Identity | None:
    try:
        return identity_of(Path(path).stat())
    except (OSError, ValueError):
        return None


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Let an error that does not say which file it is about say this one; what the system refused is one too."""
    try:
        yield
    except OSError as error:
        cause = f"the disk or the network failed ({error.strerror})"
        raise SaveError(cause, path=path, remedy="Copy the file elsewhere and try again.", code="unreadable") from error
    except SDViewerError as error:
        error.path = error.path or path
        raise
