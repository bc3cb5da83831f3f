"""Saving an edited copy: lay it out, write it beside its target, read it back, and only then put it in place.

Law: the source is never written, and OUT is never an input. Whatever goes wrong, at OUT there is what was there before.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from os import PathLike, fspath
from pathlib import Path

from sdviewer.core.checkpoint import Checkpoint, Identity
from sdviewer.core.collector import collector_off
from sdviewer.core.progress import BeforeNaming, Progress, go_on, no_progress
from sdviewer.core.text import visible
from sdviewer.errors import KeyCollision, RepairError, SaveError, SDViewerError, UnsupportedContainer, UsageError
from sdviewer.formats.converting import CONTAINERS, SHARDED, Form, converted
from sdviewer.formats.evaluation import Evaluation
from sdviewer.formats.file import File, identity_of, opened, same_file
from sdviewer.formats.folder_out import new_folder, refuse_existing_folder
from sdviewer.formats.opening import open_checkpoint
from sdviewer.formats.other_files import changed, check_others, check_taken, files_of, identity_at, is_unchanged
from sdviewer.formats.pieces import Copy, Layout, Made, check_new_bytes, computed, copied, total, write_pieces
from sdviewer.formats.receipt import (
    WEIGHTS_ONLY_NOT_TRIED,
    WEIGHTS_ONLY_REFUSED,
    Receipt,
    TakenFile,
    Verified,
    WrittenFile,
)
from sdviewer.formats.save_safetensors import lay_out_safetensors
from sdviewer.formats.save_shards import INDEX
from sdviewer.formats.save_torch_legacy import lay_out_torch_legacy
from sdviewer.formats.save_torch_zip import lay_out_torch_zip
from sdviewer.formats.temporary import Loss, Replacing, TemporaryFile, refuse_existing, temporary_file
from sdviewer.formats.tensors_out import ties_of
from sdviewer.formats.torch_check import TorchCheck, Verdict
from sdviewer.formats.torch_clean import Cleaning, settle
from sdviewer.formats.torch_computed import ComputedTensors
from sdviewer.formats.torch_edits import edits_of
from sdviewer.formats.torch_source import TorchLegacySource, TorchSource, TorchZipSource
from sdviewer.formats.verify import Proof, is_edited, verify
from sdviewer.formats.zip_directory import STORED
from sdviewer.pickles.emit import Edits
from sdviewer.repair.plan import Computed, Plan, PlanWarning, taken
from sdviewer.repair.planning import key_map

CONTAINERS_OF_SUFFIX: Mapping[str, tuple[str, ...]] = {
    ".safetensors": ("safetensors",),
    ".npz": ("npz",),
    ".onnx": ("onnx",),
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".th", ".tar", ".bin", ".pkl"), ("torch-zip", "torch-legacy")),
}
"""What a file name promises; the first is what a conversion would write."""

_REPLACING = Replacing(allowed=True)


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
    shared: str = "",
    max_shard_bytes: int | None = None,
    inputs: Iterable[str] = (),
    ask_torch: bool = True,
    progress: Progress = no_progress,
    before_naming: BeforeNaming = go_on,
) -> Receipt:
    """Write `checkpoint` as `plan` says to `out`, and prove it; with `dry_run` only say what would be written.

    `container` is what was asked for, `default_container` what a recipe says when neither that nor the suffix of `out`
    decides. `shared` is what becomes of tied tensors where the container has no ties: "alias-metadata" (the default) or
    "clone"; `max_shard_bytes` is how many bytes of tensors go into one shard. `overwrite`: a file at `out` may be
    replaced; with `split_names` also one that has hard links (they keep the old bytes), with `replaces` only that one
    in that state. `inputs` are further files that `out` must not be. `ask_torch`: let a child process load the result.
    `progress` counts bytes: written, then read back. `before_naming` is called once, for the file or folder at `out`.

    Raises:
        UsageError: `out` is an input, or there is no such container.
        UnsupportedContainer: the container can be read and not written, and no other was named.
        RepairError: the plan cannot be carried out on this file.
        SaveError: it could not be written or did not verify; at `out` is what was there before.
        Cancelled: from `progress` or `before_naming`; likewise.
    """
    name = fspath(out)
    chosen = choose_container(checkpoint, name, container, default_container)
    replacing = Replacing(overwrite, split_names, replaces)
    refuse_target(checkpoint, name, chosen, replacing, (*inputs, *files_of(plan.others.values())))
    check_others(plan.others.values())
    with collector_off(), _named(checkpoint.path), _opened(checkpoint) as source:
        if source is not None and _keeps_container(checkpoint, plan, chosen, shared):
            form = _own_form(source, checkpoint, plan)
        else:
            form = converted(source, checkpoint, plan, chosen, name, shared=shared, max_shard_bytes=max_shard_bytes)
        if dry_run:
            return _receipt(form, checkpoint)
        values = [target.value for target in plan.targets]
        check_taken(values, plan.others, lambda: progress(0, 2 * total(form.layout.pieces)))
        if form.files:
            return _save_folder(checkpoint, form, source, name, progress, before_naming)
        return _Saving(checkpoint, form, source, name, ask_torch, progress, before_naming).run(replacing)


def write_form(
    checkpoint: Checkpoint,
    form: Callable[[File | None], Form],
    out: str,
    replacing: Replacing,
    progress: Progress = no_progress,
    before_naming: BeforeNaming = go_on,
) -> Receipt:
    """Write and prove one file; `form` gets the open source, None where that is several files.

    Raises:
        SaveError: it could not be written or did not verify; at `out` is what was there before.
        Cancelled: from `progress` or `before_naming`; likewise.
    """
    with collector_off(), _named(checkpoint.path), _opened(checkpoint) as source:
        return _Saving(checkpoint, form(source), source, out, True, progress, before_naming).run(replacing)


@contextmanager
def _opened(checkpoint: Checkpoint) -> Iterator[File | None]:
    """The one file of a checkpoint, still the one that was read; None for one of several files.

    Raises:
        SaveError: it is another.
    """
    if checkpoint.shards:
        if not is_unchanged(checkpoint):
            raise changed(checkpoint.path)
        yield None
        return
    with opened(checkpoint.path) as source:
        if source.identity != checkpoint.identity:
            raise changed(checkpoint.path)
        yield source


def _keeps_container(checkpoint: Checkpoint, plan: Plan, container: str, shared: str) -> bool:
    """Whether the copy is an edited one in the container that it has, and not made anew of its tensors."""
    if container != checkpoint.container:
        return False
    if shared == "alias-metadata" and container == "safetensors" and ties_of(checkpoint, plan):
        return False
    return container in LAYOUTS or not is_edited(checkpoint, plan)


def _own_form(source: File, checkpoint: Checkpoint, plan: Plan) -> Form:
    """An edited copy in the container that it has."""
    plan, cleaning = settle(checkpoint, plan)
    edited = edit(checkpoint, plan, cleaning)

    def prove(files: tuple[File | None, File], written: Checkpoint, progress: Progress) -> Proof:
        return verify(
            *(checkpoint, plan, edited.edits, (files[0] or source, files[1]), written, progress, cleaning),
            evaluation=edited.evaluation,
            made=edited.made(),
        )

    layout = _lay_out(source, checkpoint, edited)
    loaded = _how_loaded(checkpoint)
    return Form(checkpoint.container, plan, layout, prove, loaded, evaluation=edited.evaluation)


def _how_loaded(checkpoint: Checkpoint) -> str:
    """How torch's own loader can be asked about an edited copy."""
    source = checkpoint.source
    if not isinstance(source, TorchSource):
        return ""
    # A mapped load of a compressed record shows its compressed bytes as numbers.
    mapped = isinstance(source, TorchZipSource) and all(entry.method == STORED for entry in source.records.values())
    return "map" if mapped else "read"


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


def _save_folder(
    checkpoint: Checkpoint,
    form: Form,
    source: File | None,
    out: str,
    progress: Progress,
    before_naming: BeforeNaming,
) -> Receipt:
    """Write and prove a new folder, file by file, its index last."""
    size = total(form.layout.pieces)
    done = 0
    receipts: dict[str, Receipt] = {}
    with new_folder(out, size) as folder:
        for name, one in form.files.items():
            try:
                saving = _Saving(
                    *(checkpoint, one, source, str(folder.path / name), False),
                    _part_of(progress, done, 2 * size),
                    go_on,
                )
                receipts[name] = saving.run(Replacing())
            except SaveError as error:
                error.path = f"{out}/{name}"
                raise
            done += 2 * total(one.layout.pieces)
        index = str(folder.path / INDEX)
        with opened(index) as file:
            proof = form.prove((source, file), open_checkpoint(index), no_progress)
        progress(2 * size, 2 * size)
        before_naming(folder.identity)
        folder.put_in_place()
    parts = list(receipts.values())
    files = [WrittenFile(name, part.size, part.sha256 or "") for name, part in receipts.items()]
    listed = "".join([f"{file.sha256}  {file.name}\n" for file in sorted(files)])
    unchanged = all(part.verified is not None and part.verified.source_unchanged for part in parts)
    told_once = _last_checks(Verdict(None), unchanged, form.plan.others)
    checks = [f"{name}: {check}" for name, part in receipts.items() for check in part.checks if check not in told_once]
    whole = _receipt(
        form,
        checkpoint,
        output=out,
        size=sum([part.size for part in parts]),
        proof=Proof(sha256(listed.encode()).hexdigest(), (*checks, *proof.checks)),
        checks=told_once,
        verified=Verified(True, True, True, None, unchanged),
        seconds=(sum([part.seconds_writing for part in parts]), sum([part.seconds_verifying for part in parts])),
        warnings=(*_torch_warning(Verdict(None, _no_pickle(form.container))), *_left_over(folder.losses)),
    )
    return replace(whole, files=tuple(files))


def _part_of(progress: Progress, before: int, size: int) -> Progress:
    """Progress of one file among several: `before` of `size` bytes have been done."""

    def told(done: int, total: int) -> None:
        progress(before + done, size)

    return told


def _no_pickle(container: str) -> str:
    return f"{container} files hold no pickle" if container != "torchscript" else "torch.jit.load reads such files"


class _Saving:
    """One save under way."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        form: Form,
        source: File | None,
        out: str,
        ask_torch: bool,
        progress: Progress,
        before_naming: BeforeNaming,
    ) -> None:
        self.checkpoint = checkpoint
        self.form = form
        self.source = source
        self.out = out
        self.ask_torch = ask_torch
        self.size = total(form.layout.pieces)
        self.progress = progress
        self.before_naming = before_naming

    def run(self, replacing: Replacing) -> Receipt:
        with temporary_file(self.out, nbytes=self.size, replacing=replacing) as temporary:
            started = time.monotonic()
            self._write(temporary)
            written = time.monotonic()
            proof, verdict = self._verify(temporary)
            unchanged = self._source_unchanged()
            verified = time.monotonic()
            status = os.fstat(temporary.fd)
            self._tell(self.size, self.size)
            self.before_naming(identity_of(status))
            temporary.put_in_place()
            return _receipt(
                self.form,
                self.checkpoint,
                output=self.out,
                identity=temporary.identity,
                size=status.st_size,
                proof=proof,
                verified=Verified(True, True, True, verdict.loads, unchanged),
                warnings=(*_torch_warning(verdict), *_left_over(temporary.losses)),
                seconds=(written - started, verified - written),
                checks=_last_checks(verdict, unchanged, self.form.plan.others),
            )

    def _write(self, temporary: TemporaryFile) -> None:
        try:
            source = -1 if self.source is None else self.source.fd
            if self.form.write is not None:
                self.form.write(source, temporary, lambda done, _: self._tell(done, 0))
            else:
                write_pieces(self.form.layout.pieces, source, temporary.fd, lambda done, _: self._tell(done, 0))
        except OSError as error:
            raise temporary.error(error) from error
        temporary.sync()

    def _verify(self, temporary: TemporaryFile) -> tuple[Proof, Verdict]:
        path = temporary.readable_path
        check = self._start_torch(temporary)
        try:
            with opened(path) as file:
                if self.form.write is None:
                    check_new_bytes(self.form.layout.pieces, file)
                again = self.checkpoint
                if self.form.readable:
                    again = open_checkpoint(path, progress=lambda *_: self._tell(self.size, 0))
                proof = self.form.prove((self.source, file), again, lambda done, _: self._tell(self.size, done))
            while check is not None and not check.finished():
                self._tell(self.size, self.size)
            return proof, check.verdict() if check is not None else Verdict(None, self._why_no_torch())
        except SaveError as error:
            if error.path not in self.form.plan.others:
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
        if not self.ask_torch or not self.form.loaded:
            return None
        mapped = self.form.loaded == "map"
        return TorchCheck(temporary.readable_path, temporary.fd, mapped=mapped, nbytes=self.size)

    def _why_no_torch(self) -> str:
        return _no_pickle(self.form.container) if self.ask_torch else "it was not asked for"

    def _source_unchanged(self) -> bool:
        """Whether the source is still the file it was, by name and by content.

        Raises:
            SaveError: its content changed while it was copied.
        """
        others = all(map(is_unchanged, self.form.plan.others.values()))
        if self.source is None:
            return is_unchanged(self.checkpoint) and others
        status = os.fstat(self.source.fd)
        now = identity_of(status)
        # The time of the content can be set back, that of the status cannot; to lose the last name changes that alone.
        if now != self.source.identity and not (same_file(now, self.source.identity) and status.st_nlink == 0):
            raise changed(self.checkpoint.path)
        return identity_at(self.checkpoint.path) == self.source.identity and others

    def _tell(self, written: int, read_back: int) -> None:
        self.progress(written + read_back, 2 * self.size)


def choose_container(checkpoint: Checkpoint, out: str, container: str | None, default: str | None = None) -> str:
    """What to write: what was asked for, else what the suffix says, else the recipe, else the source's own.

    Raises:
        UsageError: there is no such container.
        UnsupportedContainer: the source's own can be read and not written.
    """
    own = checkpoint.container
    for name in (container, default):
        if name is not None and name not in CONTAINERS and name != own:
            raise UsageError(f"there is no container {name}", remedy=f"One of {', '.join(sorted(CONTAINERS))}.")
    by_suffix = CONTAINERS_OF_SUFFIX.get(Path(out).suffix.lower(), ())
    if container is None and own in by_suffix:
        chosen = own
    else:
        several = SHARDED if checkpoint.shards and own not in MADE_ANEW else own
        chosen = container or next(iter(by_suffix), None) or default or several
    if chosen not in CONTAINERS or (chosen == own and own in MADE_ANEW):
        others = ", ".join(sorted({*CONTAINERS} - {*MADE_ANEW} - {own}))
        raise UnsupportedContainer(
            f"{own} files can be read and not written"
            if own not in MADE_ANEW
            else f"{own} files can be read, and not written with what else is in them: graph and code",
            path=checkpoint.path,
            remedy=f"Name another container: {others}.",
        )
    return chosen


def refuse_target(
    checkpoint: Checkpoint, out: str, container: str, replacing: Replacing = _REPLACING, inputs: Iterable[str] = ()
) -> None:
    """Raise what a save would raise for this OUT, whatever would be written there.

    Raises:
        UsageError: it is an input.
        SaveError: there is no such folder, or what is there cannot or may not be replaced.
    """
    _refuse_input(out, checkpoint, inputs)
    if container == SHARDED:
        refuse_existing_folder(out)
    else:
        refuse_existing(out, replacing)


def _refuse_input(out: str, checkpoint: Checkpoint, inputs: Iterable[str]) -> None:
    """OUT may not be a file that goes into the save, under whatever name."""
    there = identity_at(out)
    if there is None:
        return
    shards = [shard.path for shard in checkpoint.shards.values()]
    refuse_inputs(out, (checkpoint.path, *shards, *inputs))
    if (there.device, there.inode) == (checkpoint.identity.device, checkpoint.identity.inode):
        raise UsageError("the output is the file that was opened", path=out, remedy="Choose another name.")


def refuse_inputs(out: str, inputs: Iterable[str]) -> None:
    """`out` may not be one of these files, under whatever name.

    Raises:
        UsageError: it is one.
    """
    there = identity_at(out)
    for other in map(identity_at, inputs) if there is not None else ():
        if other is not None and there is not None and (other.device, other.inode) == (there.device, there.inode):
            raise UsageError(
                "the output is an input, and inputs are never written", path=out, remedy="Choose another name."
            )


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


MADE_ANEW = ("onnx", "torchscript")
"""Containers that are written of tensors alone: a copy of one would lack what the model does with them."""

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
    form: Form,
    checkpoint: Checkpoint,
    *,
    output: str | None = None,
    identity: Identity | None = None,
    size: int | None = None,
    proof: Proof | None = None,
    verified: Verified | None = None,
    warnings: Iterable[PlanWarning] = (),
    seconds: tuple[float, float] = (0.0, 0.0),
    checks: Iterable[str] = (),
) -> Receipt:
    plan, layout = form.plan, form.layout
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
        warnings=(*plan.warnings, *form.warnings, *warnings),
        container=form.container,
        size=total(layout.pieces) if size is None else size,
        seconds_writing=seconds[0],
        seconds_verifying=seconds[1],
        checks=(*proof.checks, *checks) if proof else (),
        notes=(*layout.notes, *(form.evaluation.notes if form.evaluation is not None else ())),
        identity=identity,
        taken=_taken(plan),
    )


def _taken(plan: Plan) -> tuple[TakenFile, ...]:
    """How many tensors of the result come from each of the other files."""
    files = Counter([file for target in plan.targets for file in {one.file for one in taken(target.value)}])
    return tuple([TakenFile(file, tensors) for file, tensors in files.items()])


def _last_checks(verdict: Verdict, unchanged: bool, others: Iterable[str]) -> list[str]:
    checks = []
    if verdict.loads:
        checks.append('torch.load(weights_only=True, map_location="cpu") opens it')
    if unchanged:
        checks.append("the source is the file it was: same inode, size and times")
        checks += [f"{visible(path, 400)} is the file it was too" for path in others]
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
