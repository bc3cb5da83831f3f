"""Which state dict of a checkpoint is meant."""

from __future__ import annotations

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, StateDict
from sdviewer.core.paths import dotted
from sdviewer.errors import NoMatch, UsageError
from sdviewer.repair.wording import quoted

AUTO = "auto"
"""In the place of a path: the only one that can be meant."""


def choose_state_dict(checkpoint: Checkpoint, name: str | None = None) -> int:
    """The index of the state dict with the dotted path `name` ("": the root); None or "auto": the only model.

    Raises:
        UsageError: there is none of that name, or several; the message lists what there is.
        NoMatch: the checkpoint has no state dict at all.
    """
    state_dicts = checkpoint.state_dicts
    if not state_dicts:
        raise NoMatch("there is no state dict in it", path=checkpoint.path)
    if name is None or name == AUTO:
        found = [i for i, state_dict in enumerate(state_dicts) if state_dict.role == "model"]
        what = "are several model state dicts" if found else "is no state dict that is a model's"
    else:
        found = [i for i, state_dict in enumerate(state_dicts) if dotted(state_dict.path) == name]
        what = f"{'are several state dicts' if found else 'is no state dict'} at {quoted(name)}"
    if len(found) == 1:
        return found[0]
    shown = [state_dicts[i] for i in found] or state_dicts
    remedy = f"Name one: {', '.join(map(said_state_dict, shown[:10]))}{' …' if len(shown) > 10 else ''}."
    raise UsageError(f"there {what} in it", path=checkpoint.path, remedy=remedy, code="state_dict")


def likely_state_dict(checkpoint: Checkpoint) -> int:
    """The one that somebody means who names none: the only model, else the first, else that with the most tensors.

    Raises:
        NoMatch: the checkpoint has no state dict at all.
    """
    try:
        return choose_state_dict(checkpoint)
    except UsageError:
        dicts = checkpoint.state_dicts
        models = [at for at, state_dict in enumerate(dicts) if state_dict.role in ("model", "ema")]
        return models[0] if models else max(range(len(dicts)), key=lambda at: dicts[at].tensors)


def said_state_dict(state_dict: StateDict) -> str:
    """A state dict in words, with its name."""
    return f"{quoted(dotted(state_dict.path))} ({state_dict.role}, {text.plural(state_dict.tensors, 'tensor')})"
