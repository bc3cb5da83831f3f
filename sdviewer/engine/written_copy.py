"""How a program gets at a copy that was written: where its state dict stands, and whether torch can map it."""

from __future__ import annotations

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.paths import TypedStep
from sdviewer.formats.converting import takes_tensors_alone
from sdviewer.formats.torch_source import TorchZipSource
from sdviewer.formats.zip_directory import STORED
from sdviewer.repair.plan import Plan


def place_of(checkpoint: Checkpoint, plan: Plan, container: str) -> list[str | int] | None:
    """The steps from the root of a written copy to its state dict; None where they are not all keys and indexes."""
    if takes_tensors_alone(checkpoint, container) or plan.unwrap:
        return [plan.wrap] if plan.wrap else []
    index = plan.state_dict
    if index is None:
        models = [at for at, found in enumerate(checkpoint.state_dicts) if found.role == "model"]
        if len(models) != 1:
            return None
        index = models[0]
    if checkpoint.state_dicts[index].is_module:
        return None
    steps: list[str | int] = [plan.wrap] if plan.wrap else []
    for step in checkpoint.state_dicts[index].path:
        if not isinstance(step, TypedStep):
            steps.append(step)
        elif step.type in ("index", "int"):
            steps.append(int(step.value))
        else:
            return None
    return steps


def is_mappable(checkpoint: Checkpoint, container: str) -> bool:
    """Whether torch can map the records of a copy: compressed ones, which an edited copy keeps, would be misread."""
    source = checkpoint.source
    if container != "torch-zip":
        return False
    kept = isinstance(source, TorchZipSource) and checkpoint.container == container
    return not kept or all(entry.method == STORED for entry in source.records.values())
