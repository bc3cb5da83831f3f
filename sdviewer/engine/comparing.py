"""The tensors of two checkpoints compared, pair by pair: where the bytes of two files and their numbers meet."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from sdviewer.core.checkpoint import Checkpoint, TensorInfo
from sdviewer.core.pairing import Contents, Side
from sdviewer.core.progress import Progress, no_progress, within
from sdviewer.core.tensor_bytes import ByteSource, TensorLayout
from sdviewer.errors import OpenError
from sdviewer.formats import open_storage, tensor_source
from sdviewer.stats.digest import sha256
from sdviewer.stats.pair_sums import Tolerance
from sdviewer.stats.pair_table import STATUSES, none_compared
from sdviewer.stats.pairs import compare, write_row
from sdviewer.stats.sweep import KEPT, TINY, each
from sdviewer.stats.table import KNOWN, UNREADABLE, Columns

if TYPE_CHECKING:
    from sdviewer.core.tree import Edits
    from sdviewer.repair.plan import Computed, Plan


class Opened(NamedTuple):
    """A tensor whose bytes can be read."""

    storage: ByteSource
    layout: TensorLayout


class Tensors:
    """The tensors of a checkpoint, also those that a plan computes; an index is one into `checkpoint.tensors`.

    `checkpoint` is as the plan makes it, `keys` are the new keys of the state dicts that it edits (by index), None for
    an entry that goes. Tensors of the file keep their indexes.
    """

    def __init__(self, checkpoint: Checkpoint, plan: Plan | None = None) -> None:
        self.checkpoint = self._file = checkpoint
        self.keys: Edits = {}
        self._computed: dict[int, Computed] = {}
        self._taken: dict[int, tuple[Checkpoint, int]] = {}
        if plan is not None:
            self._carry_out(plan)

    def _carry_out(self, plan: Plan) -> None:
        # What a comparison of two files as they are can do without.
        from sdviewer.engine.planned import planned
        from sdviewer.formats.evaluation import Evaluation
        from sdviewer.repair.transforms import Taken

        made = planned(self._file, plan)
        self.checkpoint, self.keys = made.checkpoint, made.keys
        self._evaluation = Evaluation(self._file, plan)
        for index, computed in made.computed.items():
            if isinstance(computed.transform, Taken):
                self._taken[index] = plan.others[computed.transform.file], computed.transform.tensor
            else:
                self._computed[index] = computed

    def __getitem__(self, index: int) -> TensorInfo:
        return self.checkpoint.tensors[index]

    def computes(self, index: int) -> bool:
        """Whether the plan computes a tensor, so that it has to be made before it is read."""
        return index in self._computed

    @contextmanager
    def open(self, index: int) -> Iterator[Opened]:
        """The bytes of a tensor, for a `with`.

        Raises:
            OpenError: it cannot be read.
        """
        if index in self._computed:
            from sdviewer.formats.computed_storage import ComputedStorage

            with ComputedStorage(self._evaluation, self._computed[index]) as made:
                yield Opened(made, made.layout)
            return
        # What a step takes from another file is read where it is.
        source = tensor_source(*self._taken.get(index, (self._file, index)))
        with open_storage(source) as storage:
            yield Opened(storage, source.layout)


class Refusal(NamedTuple):
    """Why a pair could not be compared: its place among those asked for."""

    place: int
    error: OpenError


def compare_pairs(
    a: Tensors,
    b: Tensors,
    pairs: Sequence[tuple[int, int]],
    tolerance: Tolerance | None = None,
    *,
    compiled: bool = False,
    threads: int = 1,
    progress: Progress = no_progress,
) -> tuple[Columns, list[Refusal]]:
    """The columns of `stats.pair_table` for pairs of equal shape, in their order. Progress is in logical bytes of A.

    One that cannot be read says so in its `state`. Two tensors of the meta device are as equal as they can be. Pairs of
    a few MiB are compared by so many `threads`, one each, which would only wait for each other over tiny ones; larger
    ones by a thread a core.

    Raises:
        CorruptCheckpoint: a file is another one now than when it was opened (code `file_changed`).
    """
    columns = none_compared(len(pairs))
    refusals: list[Refusal] = []
    sizes = [a[i].nbytes for i, _ in pairs]
    total = sum(sizes)

    def take(place: int, tell: Progress = no_progress) -> None:
        i, j = pairs[place]
        differ = a[i].dtype != b[j].dtype
        try:
            if a[i].kind == b[j].kind == "meta":
                columns["state"][place] = KNOWN
                columns["status"][place] = STATUSES.index("dtype" if differ else "identical")
            else:
                with a.open(i) as one, b.open(j) as two:
                    found = compare(*one, *two, tolerance, compiled=compiled, progress=tell)
                write_row(columns, place, found, dtypes_differ=differ)
        except OpenError as error:
            if error.code == "file_changed":
                raise
            columns["state"][place] = UNREADABLE
            refusals.append(Refusal(place, error))

    tiny: list[int] = []
    together: list[int] = []
    alone: list[int] = []
    for place, size in enumerate(sizes):
        by_itself = size > KEPT or a.computes(pairs[place][0])
        (alone if by_itself else together if size > TINY else tiny).append(place)

    def take_all(some: list[int], done: int, at_once: int) -> int:
        ends = list(accumulate([sizes[place] for place in some], initial=done))
        each(len(some), lambda at: take(some[at]), lambda taken: progress(ends[taken], total), at_once)
        return ends[-1]

    done = take_all(together, take_all(tiny, 0, 1), threads)
    for place in alone:
        take(place, within(done, sizes[place], total, progress))
        done += sizes[place]
    progress(total, total)
    return columns, sorted(refusals, key=lambda refusal: refusal.place)


def contents_of(a: Tensors, side_a: Side, b: Tensors, side_b: Side, progress: Progress = no_progress) -> Contents:
    """How `core.pairing` finds equal tensors under other names: by the hash of their elements."""

    def contents(of_a: Sequence[int], of_b: Sequence[int]) -> tuple[list[Hashable], list[Hashable]]:
        wanted = [(a, side_a.tensors[i]) for i in of_a] + [(b, side_b.tensors[j]) for j in of_b]
        total, done = sum(tensors[index].nbytes for tensors, index in wanted), 0
        found: list[Hashable] = []
        for tensors, index in wanted:
            size = tensors[index].nbytes
            found.append(_digest(tensors, index, within(done, size, total, progress)))
            done += size
        progress(total, total)
        return found[: len(of_a)], found[len(of_a) :]

    return contents


def _digest(tensors: Tensors, index: int, progress: Progress) -> Hashable:
    """The hash of a tensor's elements, None where they cannot be read."""
    try:
        with tensors.open(index) as opened:
            return sha256(*opened, progress=progress).sha256
    except OpenError as error:
        if error.code == "file_changed":
            raise
        return None
