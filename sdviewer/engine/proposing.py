"""What the worker answers that looks for suggestions: a fit of two tables of keys, which may take long.

It keeps nothing, so that it can be ended at any time; the worker of the workbench answers meanwhile.

    propose   buffers "source" (`packed_table`), "target" (`packed_target`) and, to look at the values of two files too,
              "values" (`packed_values`) -> {}; buffer "proposal" (`Proposal.packed`)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.key_table import KeyTable, checkpoint_of_table
from sdviewer.core.progress import Progress
from sdviewer.engine.frames import Answer
from sdviewer.errors import OpenError
from sdviewer.repair.fit import fit_to
from sdviewer.repair.matching.contents import Contents
from sdviewer.repair.matching.found import Found, Matching
from sdviewer.repair.suggestion import Caution, Suggestion
from sdviewer.repair.target import Target

Params = Mapping[str, Any]


class Proposals:
    """The service; each request is answered for itself."""

    def __init__(self) -> None:
        self.requests: Mapping[str, Callable[[Params, Progress], Answer]] = {"propose": self.propose}

    def propose(self, params: Params, progress: Progress) -> Answer:
        """Match, then infer the steps, as `fit` does."""
        source = table_of(params["source"])
        contents = _contents(params["values"], progress) if len(params.get("values", b"")) else None
        found = fit_to(checkpoint_of_table(source), 0, source, target_of(params["target"]), contents=contents)
        return Answer({}, {"proposal": Proposal(found.matching, found.suggestions).packed()})


@dataclass(frozen=True, slots=True)
class Proposal:
    """What was found for one source and target."""

    matching: Matching
    suggestions: Sequence[Suggestion]

    def packed(self) -> bytes:
        """As bytes, for another process."""
        found = [
            [one.sources, one.targets, one.relation, one.fields, one.evidence, one.by, one.reasons, one.candidates]
            for one in self.matching.found
        ]
        drops = [[at, reason] for at, reason in self.matching.drops.items()]
        told = {"found": found, "drops": drops, "suggestions": [asdict(one) for one in self.suggestions]}
        return json.dumps(told).encode()

    @staticmethod
    def unpacked(raw: Any) -> Proposal:
        """What `packed` made."""
        told = json.loads(bytes(raw))
        found = [
            Found(
                tuple(sources), tuple(targets), relation, fields, evidence, by, tuple(reasons), tuple(candidates)
            )
            for sources, targets, relation, fields, evidence, by, reasons, candidates in told["found"]
        ]  # fmt: skip
        suggestions = [
            Suggestion(
                one["step"],
                one["text"],
                one["n_keys"],
                one["evidence"],
                tuple([(old, new) for old, new in one["examples"]]),
                tuple(one["reasons"]),
                tuple([Caution(c["code"], tuple(c["keys"]), c["message"]) for c in one["cautions"]]),
            )
            for one in told["suggestions"]
        ]
        return Proposal(Matching(tuple(found), dict(map(tuple, told["drops"]))), suggestions)


def packed_table(table: KeyTable) -> bytes:
    """A table as bytes, for another process."""
    return json.dumps(_told(table)).encode()


def table_of(raw: Any) -> KeyTable:
    """The table that `packed_table` made."""
    return _table(json.loads(bytes(raw)))


def packed_values(a: Checkpoint, of_a: Sequence[int], b: Checkpoint, of_b: Sequence[int]) -> bytes:
    """Where the values of two tables lie, for another process: of each position the tensor in its file, -1 for none."""
    return json.dumps([a.path, list(of_a), b.path, list(of_b)]).encode()


def _contents(raw: Any, progress: Progress) -> Contents:
    """Who tells equal values of what `packed_values` told.

    Raises:
        OpenError: a file cannot be read any more, or holds other tensors now.
    """
    from sdviewer.engine.comparing import Tensors
    from sdviewer.engine.content_match import contents_by_view
    from sdviewer.formats import open_checkpoint

    path_a, of_a, path_b, of_b = json.loads(bytes(raw))
    a, b = open_checkpoint(path_a), open_checkpoint(path_b)
    for checkpoint, positions in ((a, of_a), (b, of_b)):
        if max(positions, default=-1) >= len(checkpoint.tensors):
            raise OpenError("the file has changed", path=checkpoint.path, code="file_changed")
    return contents_by_view(Tensors(a), of_a, Tensors(b), of_b, progress)


def packed_target(target: Target) -> bytes:
    """A target as bytes, for another process."""
    told = {slot.name: getattr(target, slot.name) for slot in fields(target)}
    told |= {"table": _told(target.table), "unreported": sorted(target.unreported)}
    return json.dumps(told).encode()


def target_of(raw: Any) -> Target:
    """The target that `packed_target` made."""
    told = json.loads(bytes(raw))
    told |= {"table": _table(told["table"]), "unreported": frozenset(told["unreported"]), "notes": tuple(told["notes"])}
    return Target(**told)


def _told(table: KeyTable) -> dict[str, Any]:
    return {
        "keys": table.keys,
        "shapes": list(table.shapes),
        "dtypes": list(table.dtypes),
        "ordered": table.ordered,
        "ties": table.ties,
        "not_tensors": sorted(table.not_tensors),
    }


def _table(told: Mapping[str, Any]) -> KeyTable:
    return KeyTable(
        tuple(told["keys"]),
        tuple([None if shape is None else tuple(shape) for shape in told["shapes"]]),
        tuple(told["dtypes"]),
        told["ordered"],
        tuple(map(tuple, told["ties"])),
        frozenset(told["not_tensors"]),
    )
