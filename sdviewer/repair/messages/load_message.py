"""What a loader said of a checkpoint and a model: which keys it missed, did not know, or found of another shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LoadMessage:
    """The sets that a load message names.

    `model` is the class, "" where it is not told. `mismatched` gives the shape in the checkpoint, then that of the
    model. `failed` are copies that failed although the shapes agree, with the reason; `not_tensors` are entries that
    are no tensors, with their class. `matched`: the text says that all keys matched. `approximate`: keys were folded,
    so some may be wrong. `incomplete`: the text is cut, or its loader tells one thing at a time. `ordered`: the keys
    stand in the order of registration. `loaders` are the dialects that were recognised; `notes` sentences about what
    else the text says.
    """

    model: str = ""
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    not_tensors: Mapping[str, str] = field(default_factory=dict)
    matched: bool = False
    approximate: bool = False
    incomplete: bool = False
    ordered: bool = True
    loaders: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Gathered:
    """What the dialects have found so far; each key once, in the order of the text.

    `whole_head`: the text has the words with which its loader begins, so nothing is missing above.
    """

    def __init__(self) -> None:
        self.model = ""
        self.missing: dict[str, None] = {}
        self.unexpected: dict[str, None] = {}
        self.mismatched: dict[str, tuple[Shape, Shape]] = {}
        self.failed: dict[str, str] = {}
        self.not_tensors: dict[str, str] = {}
        self.matched = False
        self.approximate = False
        self.incomplete = False
        self.whole_head = False
        self.ordered = True
        self.loaders: dict[str, None] = {}
        self.notes: dict[str, None] = {}

    def note(self, sentence: str) -> None:
        """Tell something once."""
        self.notes[sentence] = None

    def cut(self, where: str) -> None:
        """The text breaks off in a list; there are more keys than those that were read."""
        self.incomplete = True
        self.note(f"The text is cut in {where}: there are more keys than it names.")

    def begin_again(self, sentence: str) -> None:
        """Forget all keys: another message begins."""
        self.__init__()  # type: ignore[misc]
        self.note(sentence)

    def message(self) -> LoadMessage:
        """All of it as a value."""
        return LoadMessage(
            self.model,
            tuple(self.missing),
            tuple(self.unexpected),
            self.mismatched,
            self.failed,
            self.not_tensors,
            self.matched,
            self.approximate,
            self.incomplete,
            self.ordered,
            tuple(self.loaders),
            tuple(self.notes),
        )
