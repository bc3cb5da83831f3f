"""Reading back a torch file that was written as another of torch's containers, and comparing all of its objects."""

from __future__ import annotations

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.progress import Progress
from sdviewer.formats.evaluation import Evaluation
from sdviewer.formats.file import File
from sdviewer.formats.grafts import key_text
from sdviewer.formats.torch_clean import Cleaning
from sdviewer.formats.torch_graph import Graph
from sdviewer.formats.verify import (
    Proof,
    Run,
    compare_bytes,
    compare_header,
    computed_checks,
    computed_runs,
    failed,
    joined,
)
from sdviewer.formats.verify_pickle import first_difference
from sdviewer.formats.zip_directory import payload_offset
from sdviewer.pickles.emit import Edits
from sdviewer.pickles.nodes import Const, Global, Node, Persistent, elements
from sdviewer.repair.plan import Plan


def verify_graph(
    source: Checkpoint,
    plan: Plan,
    graph: Graph,
    files: tuple[File, File],
    written: Checkpoint,
    progress: Progress,
    cleaning: Cleaning | None,
    *,
    evaluation: Evaluation,
    container: str,
) -> Proof:
    """Compare `written`, opened again, with the objects of `source` under `plan`; `files` are the two open files.

    Raises:
        SaveError: something is not as planned; the message says what.
        Cancelled: from `progress`.
    """
    checks = compare_header(source, plan, written, evaluation, cleaning, container=container)
    same = _SameStorages(graph)
    difference = first_difference(graph.expected, Edits(), written.source.pickle, progress, same_id=same)
    if difference:
        raise failed(f"the object pickle is not the source's with these edits: {difference}")
    checks.append("every object is the source's with the edits: types, order, attributes, what is shared")
    computed = computed_runs(written, files[1], graph.made)
    runs = []
    for key, place in graph.places.items():
        if not place.nbytes:
            continue
        span = written.source.span(key)
        start = span.start + (payload_offset(files[1], span.member, span.limit) if span.member is not None else 0)
        if span.nbytes != place.nbytes:
            raise failed(f"storage {key} has {span.nbytes:,} bytes instead of {place.nbytes:,}")
        runs.append(Run(f"storage {key}", place.start, start, place.nbytes))
    sha256 = compare_bytes(joined(runs), computed, files, progress)
    if copied := sum([run.nbytes for run in runs]):
        checks.append(f"{text.count(copied)} bytes of storages, each equal to the source's")
    checks += computed_checks(computed, "bytes of storages with the checksums that they had when they were written")
    return Proof(sha256, tuple(checks))


class _SameStorages:
    """Whether two persistent ids name one storage; in the written file it has the key that it was to get."""

    def __init__(self, graph: Graph) -> None:
        self._moved = graph.moved

    def __call__(self, here: Persistent, there: Persistent) -> str:
        mine, theirs = _items(here), _items(there)[:5]
        if len(mine) != 5 or len(theirs) != 5:
            return "a persistent id changed"
        for place, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            wanted, found = _said(a), _said(b)
            if place == 2:
                wanted = self._moved.get(key_text(a) or "")
            if wanted != found:
                return f"the storage {text.visible(str(wanted), 40)} became {text.visible(str(found), 40)}"
        return ""


def _items(stored: Persistent) -> list[Node]:
    return [item for _, item in elements(stored.id)] if stored.id is not None else []


def _said(node: Node) -> object:
    """A class's name, a number, or a text as torch reads it: old Pythons wrote bytes."""
    if isinstance(node, Global):
        return node.qualified
    if isinstance(node, Const) and isinstance(node.value, int):
        return node.value
    return key_text(node)
