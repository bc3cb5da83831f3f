"""take: put tensors of another checkpoint into the state dict."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, StateDict, TensorInfo
from sdviewer.errors import KeyCollision, NoMatch, RepairError, UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.choice import dead
from sdviewer.repair.operations.choice import said as chosen
from sdviewer.repair.operations.operation import selection
from sdviewer.repair.operations.rename import Rename
from sdviewer.repair.operations.tensor_operation import (
    Entry,
    EntryChanges,
    TensorOperation,
    opaque,
    said,
    stated,
    tied,
)
from sdviewer.repair.other_files import Others, no_others
from sdviewer.repair.patterns import compile_rule
from sdviewer.repair.plan import Computed, PlanWarning
from sdviewer.repair.state_dicts import AUTO, choose_state_dict
from sdviewer.repair.transforms import Concatenate, Narrow, Taken
from sdviewer.repair.wording import file_named, listed, quoted

NAMED = 10
"""Keys that a warning carries."""

WRITTEN_OUT = 1 << 30
"""Bytes above which a tensor that repeats its elements is not written out."""

_NOT_TORCHS = ("f6_e2m3", "f6_e3m2")
"""Types of safetensors that torch lacks."""

_LEAVE_OUT = "Leave it out with `keys`."

WHOLE, MISSING = "all", "missing"


@dataclass(frozen=True, slots=True)
class Take(TensorOperation):
    """Tensors of the checkpoint at `path` (field `from`) are put in, with their dtypes and their bits.

    `state_dict` is the dotted path of the one there that is meant, `keys` are patterns of its keys; without them it is
    all of its tensors. `to` are rules (pattern, result) for those that have another key here. A tensor that is here
    already is replaced in its place; another one stands behind the key that precedes it there, else at the end.
    Where `rows` is "missing" only the rows that a tensor here lacks are taken, behind its own: of a vocabulary that has
    grown.
    """

    op: ClassVar[str] = "take"

    path: str = ""
    state_dict: str = AUTO
    to: tuple[tuple[str, str], ...] = ()
    rows: str = WHOLE

    @property
    def label(self) -> str:
        """`Take "head.weight" from "other.pth"`."""
        what = chosen("Take", self.keys) if self.keys else "Take all tensors"
        missing = "missing rows of " if self.rows == MISSING else ""
        return f"{what.replace('Take ', f'Take {missing}', 1)} from {file_named(self.path)}"

    def check(self) -> None:
        """A path, and rules that can be compiled."""
        if not self.path:
            raise UsageError("take needs the path of a checkpoint in `from`")
        if self.rows not in (WHOLE, MISSING):
            raise UsageError(f"`rows` is {quoted(self.rows)}", remedy='It can be "all" or "missing".')
        for rule in self.to:
            compile_rule(*rule)

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`from`, `state_dict`, `to`, `rows`; `keys` is read as every step's is."""
        return {
            "path": reader.text("from"),
            "state_dict": reader.text("state_dict", AUTO),
            "to": reader.pairs("to"),
            "rows": reader.choice("rows", (WHOLE, MISSING), WHOLE),
        }

    def own_fields(self) -> dict[str, Any]:
        """Without those that have their default."""
        told = stated(self, {"from": "path", "state_dict": "state_dict", "rows": "rows"})
        return told | ({"to": [list(rule) for rule in self.to]} if self.to else {})

    def with_paths(self, moved: Callable[[str], str]) -> Self:
        """The file that tensors are taken from."""
        return replace(self, path=moved(self.path))

    def plan_entries(self, entries: Sequence[Entry], others: Others = no_others) -> EntryChanges:
        """Matched are the tensors that are taken; `keys` are keys of the other file and restrict nothing here."""
        other = others(self.path)
        state_dict = other.state_dicts[choose_state_dict(other, self.state_dict)]
        try:
            if state_dict.role == "optimizer":
                raise RepairError(f"nothing to take: in {file_named(self.path)} it is an optimizer, which has no keys")
            names, dead_rules = self._new_keys(state_dict.keys)
            found = list(self._chosen(other, state_dict, names))
            _refuse_values(found, entries)
            if self.rows == MISSING:
                found = _missing_rows(found, entries)
        except RepairError as error:
            return EntryChanges([(entry,) for entry in entries], 0, (), error)
        outputs = _put_in(found, dict(zip(names, ("", *names), strict=False)), entries)
        warnings = tuple(_other_shapes(found, entries, file_named(self.path)))
        return EntryChanges(outputs, len(found), dead_rules, warnings=warnings, changed=len(found))

    def change_entries(self, entries: Sequence[Entry]) -> EntryChanges:
        """Entries alone do not say what is in the other file.

        Raises:
            UsageError: always.
        """
        return self.plan_entries(entries)

    def _new_keys(self, keys: Sequence[str]) -> tuple[Sequence[str], tuple[str, ...]]:
        """The key here of every key there, and the patterns and rules that match nothing."""
        nothing = dead(self.keys, keys)
        if not self.to:
            return keys, nothing
        changes = Rename(rules=self.to).change(keys)
        if changes.refusal is not None:
            raise changes.refusal
        return [key or "" for key in changes.new_keys], (*nothing, *changes.dead_rules)

    def _chosen(self, other: Checkpoint, state_dict: StateDict, names: Sequence[str]) -> Iterator[Entry]:
        """The tensors that are meant, as entries with their key here, in the order of the other file.

        Raises:
            RepairError: there is none, one cannot be taken, or two of them have one key.
        """
        is_meant = selection(self.keys) if self.keys else None
        from_key: dict[str, str] = {}
        first: dict[Hashable, Taken] = {}
        for key, name, tensor in zip(state_dict.keys, names, state_dict.tensor_of, strict=True):
            if tensor < 0:
                continue
            info = other.tensors[tensor]
            # (also of those that another step takes)
            made = first.setdefault(tied(info), Taken(other.path, other.identity, tensor, key))
            if is_meant is not None and not is_meant(key):
                continue
            if why := _why_not(info, other):
                raise _cannot(key, f"in {file_named(other.path)} {why}")
            if name in from_key:
                both = f"it and {quoted(from_key[name])} are both {quoted(name)} here"
                why = "it stands there twice" if from_key[name] == key else both
                raise KeyCollision(f"cannot take {quoted(key)}: {why}", key=key, remedy=_LEAVE_OUT)
            from_key[name] = key
            yield Entry(name, Computed(made, (), info.shape, info.dtype), info.shape, info.dtype, tied=made)
        if not from_key:
            where = file_named(other.path)
            what = f"{where} has no tensor {listed(self.keys)}" if self.keys else f"{where} has no tensors"
            raise NoMatch(f"nothing to take: {what}", remedy="Look at its keys with sdviewer info.")


def _why_not(info: TensorInfo, other: Checkpoint) -> str:
    """Why a tensor cannot be taken, or ""."""
    if why := opaque(info):
        return why
    if info.dtype in _NOT_TORCHS:
        return f"it is of a type that torch lacks, {info.dtype}"
    storage = other.storages.get(info.storage or "")
    stored = info.nbytes if storage is None else storage.nbytes
    if info.nbytes > max(WRITTEN_OUT, 16 * stored):
        return f"it repeats {text.size(stored)} until they are {text.size(info.nbytes)}"
    return ""


def _refuse_values(found: Sequence[Entry], entries: Sequence[Entry]) -> None:
    """Raise where a tensor would take the place of something else, or there is no place."""
    if not entries:
        raise NoMatch("there is nothing left to put it into", key=found[0].key)
    values = {entry.key for entry in entries if entry.shape is None}
    wrong = next((new.key for new in found if new.key in values), None)
    if wrong is not None:
        raise _cannot(wrong, "here it is no tensor")


def _missing_rows(found: Sequence[Entry], entries: Sequence[Entry]) -> list[Entry]:
    """The tensors here with the rows behind their own that those found have; one that lacks none stays.

    Raises:
        RepairError: a tensor is not here, or they differ in more than the number of rows.
    """
    here = {entry.key: entry for entry in entries}
    made = []
    for new in found:
        old, wanted = here.get(new.key), new.shape or ()
        if old is None:
            raise _cannot(new.key, "it is not here, so that there are no rows to add to")
        own = old.shape or ()
        if not own or own[1:] != wanted[1:] or len(own) != len(wanted) or own[0] > wanted[0] or old.opaque:
            raise _cannot(new.key, f"{said(old)} does not become {text.shape(wanted)} by more rows")
        if old.dtype != new.dtype:
            raise _cannot(new.key, f"it is {old.dtype} here and {new.dtype} there: cast it first")
        if own[0] < wanted[0]:
            more = wanted[0] - own[0]
            rows = Computed(Narrow(0, own[0], more), (new.value,), (more, *own[1:]), new.dtype)
            value = Computed(Concatenate(0), (old.value, rows), wanted, new.dtype)
            made.append(new._replace(value=value, tied=None))
    return made


def _put_in(found: Sequence[Entry], before: Mapping[str, str], entries: Sequence[Entry]) -> list[Sequence[Entry]]:
    """The entries with what was found in its place: that of its key, else behind the key `before` it, else the last."""
    places = {entry.key: place for place, entry in enumerate(entries)}
    standing: list[Entry] = list(entries)
    behind: list[list[Entry]] = [[] for _ in entries]
    last: list[Entry] = []
    homes = {entry.key: behind[place] for place, entry in enumerate(entries)}
    for new in found:
        if new.key in places:
            place = places[new.key]
            made = new.value
            assert isinstance(made, Computed)
            if isinstance(made.transform, Taken):
                made = Computed(made.transform, (entries[place].value,), made.shape, made.dtype)
            standing[place] = new._replace(value=made)
        else:
            # (what stands behind a new key stands where that stands)
            home = homes[new.key] = homes.get(before[new.key], last)
            home.append(new)
    behind[-1] += last
    return [(entry, *others) for entry, others in zip(standing, behind, strict=True)]


def _other_shapes(found: Sequence[Entry], entries: Sequence[Entry], name: str) -> Iterator[PlanWarning]:
    """What a person should know of tensors that get another shape."""
    now = {entry.key: entry for entry in entries}
    changed = [
        (now[new.key], new)
        for new in found
        if new.key in now and now[new.key].shape != new.shape and not _has_more_rows(new)
    ]
    if changed:
        old, new = changed[0]
        more = f", and {len(changed) - 1:,} more get another shape" if len(changed) > 1 else ""
        message = f"{said(old)} is {text.shape(new.shape or ())} in {name}{more}"
        yield PlanWarning("take_shape", tuple([new.key for _, new in changed[:NAMED]]), message)


def _has_more_rows(entry: Entry) -> bool:
    """Whether it keeps its own rows, as somebody asked for."""
    return isinstance(entry.value, Computed) and isinstance(entry.value.transform, Concatenate)


def _cannot(key: str, why: str) -> RepairError:
    return RepairError(f"cannot take {quoted(key)}: {why}", key=key, remedy=_LEAVE_OUT)
