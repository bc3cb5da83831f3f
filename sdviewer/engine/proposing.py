"""What the worker answers that looks for suggestions: a fit of two tables of keys, which may take long.

It keeps nothing, so that it can be ended at any time; the worker of the workbench answers meanwhile.

    propose   buffers "source" (a packed KeyTable), "target" (a packed Target) and, to look at the values of two files
              too, "values" (`packed_values`) -> {}; buffer "proposal" (a packed Proposal)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.key_table import KeyTable, checkpoint_of_table
from sdviewer.core.progress import Progress
from sdviewer.engine.frames import Answer
from sdviewer.engine.packing import packed, unpacked
from sdviewer.errors import OpenError
from sdviewer.repair.fit import fit_to
from sdviewer.repair.matching.contents import Contents
from sdviewer.repair.matching.found import Matching
from sdviewer.repair.suggestion import Caution, Suggestion
from sdviewer.repair.target import Target

Params = Mapping[str, Any]


class Proposals:
    """The service; each request is answered for itself."""

    def __init__(self) -> None:
        self.requests: Mapping[str, Callable[[Params, Progress], Answer]] = {"propose": self.propose}

    def propose(self, params: Params, progress: Progress) -> Answer:
        """Match, then infer the steps, as `fit` does."""
        source, target = unpacked(KeyTable, params["source"]), unpacked(Target, params["target"])
        contents = _contents(params["values"], progress) if len(params.get("values", b"")) else None
        found = fit_to(checkpoint_of_table(source), 0, source, target, contents=contents)
        return Answer({}, {"proposal": packed(Proposal(found.matching, found.suggestions, found.cautions))})


@dataclass(frozen=True, slots=True)
class Proposal:
    """What was found for one source and target; `cautions` belong to none of the suggestions."""

    matching: Matching
    suggestions: Sequence[Suggestion]
    cautions: Sequence[Caution] = ()


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
