"""What a load message says of the model: its keys are those that were loaded, less the unexpected, and the missing.

Only names are known, and the shapes that the text states or that loaded without a complaint.
"""

from __future__ import annotations

from collections.abc import Mapping

from sdviewer.core import text
from sdviewer.core.key_table import KeyTable
from sdviewer.errors import OpenError
from sdviewer.repair.messages.load_message import LoadMessage, Shape
from sdviewer.repair.messages.peft import as_in_file
from sdviewer.repair.target import Target
from sdviewer.repair.wording import listed

UNWRAP = "unwrap the state dict first."
SHAPES_UNSAID = "the text does not say the shape."
"""How two of the notes end."""

COUNTER = "num_batches_tracked"
"""torch fills it in where the state dict has no version for its module, and mmengine never reports it."""

_STATISTICS = ("running_mean", "running_var")

_CONTAINER_NAMES = frozenset(
    {
        "args",
        "config",
        "ema",
        "epoch",
        "hyper_parameters",
        "iteration",
        "model",
        "model_ema",
        "model_state_dict",
        "module",
    }
    | {"net", "optimizer", "optimizer_state_dict", "optimizer_states", "scheduler", "state_dict", "step"}
)
"""What people call the entries of a training checkpoint."""


def target_of_message(message: LoadMessage, source: KeyTable, *, name: str = "") -> Target:
    """The keys of the model that a message is about; `source` is what was loaded when it came.

    Raises:
        OpenError: the message names no key and does not say that all matched, so nothing is known of the model (code
            `bad_target`).
    """
    message = as_in_file(message, source)
    notes = list(message.notes)
    tells = message.missing or message.unexpected or message.mismatched or message.not_tensors or message.failed
    if not tells and not message.matched:
        raise OpenError(
            " ".join([note.rstrip(".") for note in notes[:1]]) or "the load error names no keys",
            remedy="Paste the whole message, from Error(s) in loading state_dict on.",
            code="bad_target",
        )
    missing, unexpected, mismatched = _confirmed(message, source)
    at = {key: position for position, key in enumerate(source.keys)}
    kept = [key for key in source.keys if key not in unexpected]
    foreign = [key for key in unexpected if key not in at]
    incomplete, nested = message.incomplete, True
    if foreign and 2 * len(foreign) >= len(unexpected) and not message.approximate:
        # Something else was loaded than this state dict: what the model took of it, the text does not say.
        kept = [key for key in kept if key in mismatched or key in message.not_tensors or key in message.failed]
        if not _CONTAINER_NAMES.isdisjoint(foreign) and not any("." in key for key in foreign):
            nested = False
            notes.append(
                f"The whole checkpoint was given to load_state_dict ({listed(foreign)} are its entries, no keys of a "
                f"model): {UNWRAP}"
            )
        else:
            incomplete = True
            notes.append(
                f"The text is about another file: {text.plural(len(foreign), 'key')} that it calls unexpected are not "
                f"in this one ({listed(foreign)})."
            )
    keys = list(dict.fromkeys([*kept, *missing, *mismatched, *message.not_tensors, *message.failed]))
    unreported = _counters(keys, message, source)
    keys = _with_counters(keys, unreported)
    if not keys:
        raise OpenError(
            "the load error names keys that the model does not have, and none that it has",
            remedy="Give a list of its keys, another checkpoint of it, or its class.",
            code="bad_target",
        )
    shapes = [_shape(key, at, source, message, mismatched) for key in keys]
    unknown = sum([shape is None for shape in shapes])
    if unknown:
        notes.append(f"Of {text.plural(unknown, 'key')} {SHAPES_UNSAID}")
    if message.approximate:
        notes.append("The report names keys of many layers in short; those were filled in, and some may be wrong.")
    if unreported:
        notes.append(f"{text.plural(len(unreported), 'key')} added ({COUNTER}): loaders do not call these missing.")
    return Target(
        "message",
        name,
        KeyTable(
            tuple(keys),
            tuple(shapes),
            ("",) * len(keys),
            ordered=message.ordered and (source.ordered if not missing else not kept),
        ),
        model=message.model,
        approximate=message.approximate,
        incomplete=incomplete,
        unreported=frozenset(unreported),
        notes=tuple(notes),
        nested=nested,
    )


def _confirmed(
    message: LoadMessage, source: KeyTable
) -> tuple[list[str], dict[str, None], Mapping[str, tuple[Shape, Shape]]]:
    """Missing, unexpected and mismatched, as the source can bear them out where keys were folded.

    A folded report lists the union of the numbers, gaps included, and the shape of the last key of a group.
    """
    unexpected = dict.fromkeys(message.unexpected)
    if not message.approximate:
        return list(message.missing), unexpected, message.mismatched
    shapes = dict(zip(source.keys, source.shapes, strict=True))
    mismatched = {
        key: pair
        for key, pair in message.mismatched.items()
        if key in shapes and (shapes[key] is None or shapes[key] == pair[0])
    }
    known = {key: None for key in unexpected if key in shapes}
    if not known:
        return list(message.missing), unexpected, mismatched or message.mismatched
    return [key for key in message.missing if key not in shapes or key in known], known, mismatched


def _counters(keys: list[str], message: LoadMessage, source: KeyTable) -> list[str]:
    """The counters that belong to running statistics in `keys` and that a loader would not have called missing."""
    if not any(key.endswith(COUNTER) for key in source.keys):
        return []
    there = set(keys) | set(message.unexpected)
    prefixes = [key.removesuffix(_STATISTICS[0]) for key in keys if key.endswith(_STATISTICS[0])]
    return [
        prefix + COUNTER
        for prefix in prefixes
        if prefix + _STATISTICS[1] in there and prefix + COUNTER not in there and prefix + _STATISTICS[0] in there
    ]


def _with_counters(keys: list[str], counters: list[str]) -> list[str]:
    """Each counter where a BatchNorm registers it: behind its running variance."""
    if not counters:
        return keys
    behind = {counter.removesuffix(COUNTER) + _STATISTICS[1]: counter for counter in counters}
    found = []
    for key in keys:
        found.append(key)
        if key in behind:
            found.append(behind[key])
    return found


def _shape(
    key: str,
    at: Mapping[str, int],
    source: KeyTable,
    message: LoadMessage,
    mismatched: Mapping[str, tuple[Shape, Shape]],
) -> Shape | None:
    """That of the model: as stated, or that of the source's key which it took without a complaint."""
    if key in mismatched:
        return mismatched[key][1]
    position = at.get(key)
    if position is None or key in message.not_tensors or position in source.not_tensors:
        return () if key.endswith(COUNTER) else None
    return source.shapes[position]
