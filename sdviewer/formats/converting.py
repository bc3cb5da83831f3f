"""Writing a checkpoint in another container than its own: what is written, and how it is proved.

Files of torch's family keep their whole object graph in each other; any other container gets the tensors of one state
dict, and what that loses is said first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.progress import Progress
from sdviewer.core.text import plural
from sdviewer.formats.evaluation import Evaluation
from sdviewer.formats.file import File
from sdviewer.formats.pieces import Layout
from sdviewer.formats.save_new_torch import lay_out_new_torch
from sdviewer.formats.save_npz import lay_out_npz
from sdviewer.formats.save_onnx import lay_out_onnx
from sdviewer.formats.save_safetensors import lay_out_new_safetensors
from sdviewer.formats.save_shards import INDEX, index_of, shards_of
from sdviewer.formats.save_torchscript import lay_out_for_torchscript, refuse_torchscript, write_torchscript
from sdviewer.formats.temporary import TemporaryFile
from sdviewer.formats.tensors_out import ROOMS, TensorOut, TensorsOut, tensors_out
from sdviewer.formats.torch_clean import settle
from sdviewer.formats.torch_computed import ComputedTensors
from sdviewer.formats.torch_edits import edits_of
from sdviewer.formats.torch_graph import graph_of, keeps_objects
from sdviewer.formats.verify import Proof
from sdviewer.formats.verify_graph import verify_graph
from sdviewer.formats.verify_tensors import verify_index, verify_tensors, verify_text
from sdviewer.repair.plan import Kept, Plan, PlanWarning, Target
from sdviewer.repair.state_dicts import choose_state_dict

Prove = Callable[[tuple["File | None", File], Checkpoint, Progress], Proof]
"""Compares a written file, opened again, with what was to be written; the files are the source and the written one."""

Write = Callable[[int, TemporaryFile, Progress], None]
"""Fills a file; the first is the descriptor of the source, -1 where that is several files."""


@dataclass(frozen=True, slots=True)
class Form:
    """A file that is to be written: its `container` and bytes, and how it is proved when it has been read back.

    `plan` is what is carried out, without what the container cannot hold. `loaded`: how torch's own loader is asked
    about it: "map", "read", or "" where it is no torch file. `write` fills the file where that is not done by writing
    the pieces of `layout`, which then only say how much there is. `files` are those of a folder, by their names; they
    are written and proved one by one, and `layout` is all of them. `evaluation` can tell more when it has computed.
    `readable`: one of our readers can open it again; `prove` gets the source where none can.
    """

    container: str
    plan: Plan
    layout: Layout
    prove: Prove
    loaded: str = ""
    warnings: tuple[PlanWarning, ...] = ()
    write: Write | None = None
    files: Mapping[str, Form] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    readable: bool = True


def takes_tensors_alone(checkpoint: Checkpoint, container: str) -> bool:
    """Whether writing a checkpoint in a container takes the tensors of one state dict out of it, and nothing else.

    Then its keys can be edited even where it is itself a container that is only read.
    """
    return not (container == checkpoint.container and container in OWN_EDITS) and not keeps_objects(
        checkpoint, container
    )


def converted(
    file: File | None,
    checkpoint: Checkpoint,
    plan: Plan,
    container: str,
    out: str,
    *,
    shared: str = "",
    max_shard_bytes: int | None = None,
) -> Form:
    """The form of a checkpoint in a container that is not its own; `out` is what the file will be called.

    `file` is the open source, None where it is several. `shared` is what becomes of tied tensors where the container
    has no ties: "alias-metadata" (the default) or "clone". `max_shard_bytes` is how many bytes of tensors go into one
    shard.

    Raises:
        UsageError: it is not clear which state dict is meant.
        RepairError: nothing of it can be held by the container.
        SaveError: the numbers of a tensor cannot be read.
    """
    if file is not None and keeps_objects(checkpoint, container) and container != checkpoint.container:
        return _with_all_objects(file, checkpoint, plan, container, out)
    chosen = tensors_out(file, checkpoint, of_one_state_dict(checkpoint, plan), container, shared=shared)
    tensors = chosen.tensors
    if container == SHARDED:
        return _sharded(chosen, max_shard_bytes, copies=file is not None)
    if container == "torchscript":
        refuse_torchscript(tensors)
    layout = WRITERS[container](chosen, out, file is not None)
    prove = prove_tensors(tensors, container)
    loaded = _LOADED.get(container, "")
    form = Form(container, chosen.plan, layout, prove, loaded, chosen.warnings, evaluation=chosen.evaluation)
    if container == "torchscript":
        return replace(form, write=lambda source, temporary, told: write_torchscript(layout, source, temporary, told))
    return form


def prove_tensors(tensors: Sequence[TensorOut], container: str) -> Prove:
    """How a file of these tensors is proved."""
    room = ROOMS[container]

    def prove(files: tuple[File | None, File], written: Checkpoint, progress: Progress) -> Proof:
        return verify_tensors(
            *(tensors, room.dtypes.__getitem__, files, written, progress),
            container=container,
            aliases=room.ties == "alias",
        )

    return prove


def _sharded(chosen: TensorsOut, max_shard_bytes: int | None, *, copies: bool) -> Form:
    """A folder of safetensors files and their index."""
    shards = shards_of(chosen.tensors, max_shard_bytes)
    files = {}
    for name, tensors in shards.items():
        layout = lay_out_new_safetensors(tensors, chosen.metadata, copies=copies)
        files[name] = Form("safetensors", chosen.plan, layout, prove_tensors(tensors, "safetensors"))
    index = Layout([index_of(shards)])
    pieces = [piece for form in files.values() for piece in form.layout.pieces]
    notes = tuple(dict.fromkeys([note for form in files.values() for note in form.layout.notes]))
    whole = Layout([*pieces, *index.pieces], (f"{plural(len(files), 'shard')} and {INDEX}", *notes))

    def prove(files: tuple[File | None, File], written: Checkpoint, progress: Progress) -> Proof:
        return verify_index(shards, written, files[1], progress)

    def prove_text(files: tuple[File | None, File], written: Checkpoint, progress: Progress) -> Proof:
        return verify_text(index.pieces, files[1], progress)

    # While it has no name, the index has no shards beside it: what it says is looked at in the finished folder.
    files[INDEX] = Form(SHARDED, chosen.plan, index, prove_text)
    return Form(SHARDED, chosen.plan, whole, prove, "", chosen.warnings, files=files, evaluation=chosen.evaluation)


def _with_all_objects(file: File, checkpoint: Checkpoint, plan: Plan, container: str, out: str) -> Form:
    """A torch file with the whole object graph of another."""
    plan, cleaning = settle(checkpoint, plan)
    evaluation = Evaluation(checkpoint, plan, "little")
    computed = ComputedTensors(evaluation)
    edits = edits_of(checkpoint, checkpoint.source, plan, computed, cleaning)
    graph = graph_of(file, checkpoint, edits, computed, container, out)

    def prove(files: tuple[File | None, File], written: Checkpoint, progress: Progress) -> Proof:
        return verify_graph(
            *(checkpoint, plan, graph, (files[0] or file, files[1]), written, progress, cleaning),
            evaluation=evaluation,
            container=container,
        )

    return Form(container, plan, graph.layout, prove, _LOADED.get(container, ""), evaluation=evaluation)


OWN_EDITS = ("torch-zip", "torch-legacy", "safetensors")
"""Containers of which an edited copy keeps everything else that is in them."""

SHARDED = "hf-index"
"""The container that is a folder."""

_LOADED = {"torch-zip": "map", "torch-legacy": "read"}
"""How torch's own loader is asked about what was written."""


def of_one_state_dict(checkpoint: Checkpoint, plan: Plan) -> Plan:
    """A plan that says which state dict is written; one without steps leaves that open.

    Raises:
        UsageError: there are several, or none that is a model's; the message lists them.
        NoMatch: there is none at all.
    """
    if plan.state_dict is not None:
        return plan
    index = choose_state_dict(checkpoint)
    keys = checkpoint.state_dicts[index].keys
    return Plan(index, tuple([Target(key, Kept(entry)) for entry, key in enumerate(keys)]), steps=plan.steps)


Writer = Callable[[TensorsOut, str, bool], Layout]
"""Tensors, the name of the file, whether its bytes can be copied from the source -> the file."""

WRITERS: Mapping[str, Writer] = MappingProxyType(
    {
        "torch-zip": lambda of, out, copies: lay_out_new_torch(of.tensors, "torch-zip", out, copies=copies),
        "torch-legacy": lambda of, out, copies: lay_out_new_torch(of.tensors, "torch-legacy", out, copies=copies),
        "safetensors": lambda of, _, copies: lay_out_new_safetensors(of.tensors, of.metadata, copies=copies),
        "npz": lambda of, *_: lay_out_npz(of.tensors),
        "onnx": lambda of, _, copies: lay_out_onnx(of.tensors, copies=copies),
        "torchscript": lambda of, *_: lay_out_for_torchscript(of.tensors),
    }
)
"""How each container is laid out from tensors alone: a new one is one new file, one line here and a room for it."""

CONTAINERS = (*WRITERS, SHARDED)
"""Everything that can be written."""
