"""Makes of what matching found the few steps that a person would write, each carried out before it is offered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from sdviewer.core import text
from sdviewer.core.key_table import KeyTable
from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.execution import carried_out, entries_of_table, planned
from sdviewer.repair.matching.found import Evidence, Found, Matching
from sdviewer.repair.operations import Operation, SpectralNorm, WeightNorm, operation_from_step
from sdviewer.repair.operations.reparametrization import Found as Reparametrization
from sdviewer.repair.operations.reparametrization import Reparametrized
from sdviewer.repair.operations.tensor_operation import EachTensor, Entry
from sdviewer.repair.plan import Expression, Kept, sources
from sdviewer.repair.rules.candidates import REST, TAKEN, Candidate
from sdviewer.repair.rules.covering import covering
from sdviewer.repair.rules.decision_list import Rules, Wishes, executed, find_rules, literal
from sdviewer.repair.rules.dialects import Recognised, recognised
from sdviewer.repair.rules.in_place import IN_PLACE
from sdviewer.repair.rules.steps import Step, step_of, steps_of
from sdviewer.repair.rules.tensor_steps import Keyed, Proposed, fuses, joined_stacks, splits, stacks, unstacks
from sdviewer.repair.rules.traps import Trap, traps_of
from sdviewer.repair.suggestion import Caution, Suggestion
from sdviewer.repair.wording import listed

MOST_SINGLES = 200
"""Keys that are renamed one by one, at most: a longer list says nothing to a person any more."""
MOST_NAMED = 500
"""Patterns of one step, at most."""
SHOWN = 3

_WEAKEST: tuple[Evidence, ...] = ("ambiguous", "likely", "proved")
_SAME_NAME = ("rename", "transpose", "squeeze", "reshape", "permute_rope", "tie")
"""Relations whose tensor gets a new key by renaming; what is done to its numbers is another step."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """The steps that are proposed, and what a person should know besides: known traps, what has no pattern."""

    suggestions: tuple[Suggestion, ...]
    cautions: tuple[Caution, ...] = ()


def suggest(source: KeyTable, target: KeyTable, matching: Matching) -> tuple[Suggestion, ...]:
    """The steps that carry out a matching, in their order: wrappers, drops, renames, what is done to tensors."""
    return propose(source, target, matching).suggestions


def propose(source: KeyTable, target: KeyTable, matching: Matching, *, head_dim: int = 0) -> Proposal:
    """As `suggest`, with what is to be said besides; `head_dim` as of a target."""
    proposal = _Composer(source, target, matching, head_dim).composed()
    if _goes_through(source, proposal):
        return proposal
    # A branch met a leaf on the way, say: renamed all at once they may never meet.
    at_once = _Composer(source, target, matching, head_dim, at_once=True).composed()
    if _goes_through(source, at_once):
        return at_once
    message = "the steps that were found do not go through one after the other"
    return Proposal((), (*proposal.cautions, Caution(code="no_pattern", keys=(), message=message)))


def _goes_through(source: KeyTable, proposal: Proposal) -> bool:
    """Whether planning carries out all steps, as it would on the file."""
    try:
        planned(source, [operation_from_step(suggestion.step) for suggestion in proposal.suggestions])
    except (RepairError, UsageError):
        return False
    return True


@dataclass(slots=True)
class _Composer:
    """The entries of the source on their way through the steps that are proposed."""

    source: KeyTable
    target: KeyTable
    matching: Matching
    head_dim: int = 0
    entries: list[Entry] = field(default_factory=list)
    suggestions: list[Suggestion] = field(default_factory=list)
    changed: list[frozenset[int]] = field(default_factory=list)
    cautions: list[Caution] = field(default_factory=list)
    evidence: dict[int, Evidence] = field(default_factory=dict)
    reasons: dict[int, tuple[str, ...]] = field(default_factory=dict)
    wish: dict[int, str] = field(default_factory=dict)
    at_once: bool = False
    folded: dict[int, tuple[Expression, tuple[int, ...]]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...] | None] = field(default_factory=dict)

    def composed(self) -> Proposal:
        self.entries = entries_of_table(self.source)
        self.shapes = dict(zip(self.target.keys, self.target.shapes, strict=True))
        # (a tensor that is tied to a second key has one of its own as well, as a rule)
        for found in sorted(self.matching.found, key=lambda one: one.relation == "tie"):
            for place in found.sources:
                if found.relation == "tie" and place in self.evidence:
                    continue
                self.evidence[place] = found.evidence
                self.reasons[place] = found.reasons
                # (a tie may be told beside the rename that its tensor gets)
                if found.relation in _SAME_NAME and (found.relation != "tie" or place not in self.wish):
                    self.wish[place] = self.target.keys[self._first_target(found, place)]
        self._fold()
        dialects = recognised(self.source)
        self._strip_wrappers(dialects)
        self._bring_into_form()
        self._exchange_prefix()
        doubtful = any(found.evidence == "ambiguous" for found in self.matching.found)
        for ambiguous in (False, True) if doubtful or self.matching.unsure else (False,):
            self._drop(ambiguous)
            self._join_and_cut(ambiguous)
            self._rename(ambiguous)
            self._change_in_place(ambiguous)
            self._turn_made(ambiguous)
            self._tie(ambiguous)
        traps = traps_of(self.source, self.target, self.matching, self.head_dim)
        traps = [self._mended(trap) for trap in traps]
        self.cautions += [trap.caution for trap in traps]
        return Proposal(
            tuple([
                replace(
                    suggestion,
                    cautions=(*suggestion.cautions, *[trap.caution for trap in traps if trap.places & places]),
                )
                for suggestion, places in zip(self.suggestions, self.changed, strict=True)
            ]),
            tuple(self.cautions),
        )  # fmt: skip

    def _mended(self, trap: Trap) -> Trap:
        """The trap, after the steps against it are proposed, or with those that a person may take."""
        groups: dict[str, tuple[Step, set[str]]] = {}
        for key, step in trap.fixes.items():
            groups.setdefault(repr(step), (step, set()))[1].add(key)
        steps: list[Step] = []
        for step, keys in groups.values():
            wanted = [entry.key for entry in self.entries if entry.key in keys]
            patterns = covering(wanted, [key for key in self._keys() if key not in keys], most=MOST_NAMED)
            steps += [step | {"keys": patterns}] if patterns else []
        if not trap.known:
            return trap._replace(caution=replace(trap.caution, steps=tuple(steps)))
        for step in steps:
            if self._offer(step, ["Models of this kind are known to need it."], "ambiguous"):
                self.suggestions[-1] = replace(self.suggestions[-1], asks=trap.asks)
        return trap

    # Steps

    def _offer(self, step: Step, reasons: Iterable[str] = (), evidence: Evidence | None = None) -> bool:
        """Carry a step out and offer it; False where it does not go through."""
        try:
            operation = operation_from_step(step)
            after = carried_out(operation, self.entries)
        except (RepairError, UsageError):
            return False
        changed = _changed(self.entries, after)
        if not changed:
            return False
        places = [place for place, _, _ in changed]
        self._suggest(operation, places, [(old, new) for _, old, new in changed], reasons, evidence)
        self.entries = after
        return True

    def _suggest(
        self,
        operation: Operation,
        places: Sequence[int],
        examples: Sequence[tuple[str, str]],
        reasons: Iterable[str] = (),
        evidence: Evidence | None = None,
    ) -> None:
        """Offer a step that was carried out; its evidence is the weakest of the pairs at these places of the source."""
        weakest = evidence or _weakest({self.evidence[place] for place in places if place in self.evidence})
        self.changed.append(frozenset(places))
        pairs = _most_given([self.reasons.get(place, ()) for place in places])
        self.suggestions.append(
            Suggestion(
                operation.to_step(),
                _said(operation),
                len(examples),
                weakest,
                tuple(dict.fromkeys(examples))[:SHOWN],
                tuple(dict.fromkeys([*reasons, *pairs])),
            )
        )

    def _keys(self) -> list[str]:
        return [entry.key for entry in self.entries]

    def _place(self, entry: Entry) -> int:
        """The place in the source of an entry that is one of its tensors, or folded of some; -1 of what was made."""
        return entry.value.entry if isinstance(entry.value, Kept) else self._parts(entry)[0]

    def _parts(self, entry: Entry) -> tuple[int, ...]:
        """The places in the source of what an entry is folded of, its own first."""
        return self.folded[id(entry.value)][1] if id(entry.value) in self.folded else (-1,)

    def _fold(self) -> None:
        """Bring weights that are several tensors into one, where the target has them so."""
        for fold in self.matching.folds:
            if self._offer(dict(fold.step), [fold.reason + "."], fold.evidence):
                made = {frozenset(parts): parts for parts in fold.parts}
                for entry in self.entries:
                    parts = made.get(frozenset(sources(entry.value)))
                    if parts is not None:
                        self.folded[id(entry.value)] = entry.value, parts

    def _bring_into_form(self) -> None:
        """Bring a norm that both sides keep in several tensors into the form that the target has."""
        for operation in (WeightNorm(), SpectralNorm()):
            old = {one.form for one in _found(operation, self.entries)}
            new = {one.form for one in _found(operation, entries_of_table(self.target))} if old else old
            if len(old) == len(new) == 1 and old != new:
                reason = f"The target keeps its {operation.name} in the {min(new)} form."
                self._offer({"op": operation.op, "to": min(new)}, [reason], "proved")

    def _strip_wrappers(self, dialects: Sequence[Recognised]) -> None:
        theirs = {component for key in self.target.keys for component in key.split(".")[:-1]}
        worn = [one for one in dialects if one.dialect.components and not theirs.intersection(one.dialect.components)]
        components = list(dict.fromkeys([name for one in worn for name in one.dialect.components]))
        if not components:
            return
        reasons = [f"{one.dialect.name}: {one.dialect.says}" for one in worn]
        prefix = components[0] + "."
        keys = self._keys()
        if len(components) == 1 and all(
            key.startswith(prefix) and components[0] not in key.removeprefix(prefix).split(".")[:-1]
            for key in keys
            if components[0] in key.split(".")[:-1]
        ):
            all_have = all(key.startswith(prefix) for key in keys)
            self._offer({"op": "strip", "prefix": prefix, **({} if all_have else {"when": "any"})}, reasons, "proved")
        else:
            self._offer({"op": "strip", "components": components}, reasons, "proved")

    def _exchange_prefix(self) -> None:
        """One prefix for another on all keys, where that brings keys home."""
        current = {self._place(entry): entry.key for entry in self.entries}
        ours: list[str] = []
        theirs: list[str] = []
        for found in self.matching.found:
            if found.evidence != "ambiguous":
                ours += [current[place] for place in found.sources if place in current]
                theirs += [self.target.keys[place] for place in found.targets]
        if not ours:
            return
        old, new = _unlike(_common_prefix(ours), _common_prefix(theirs))
        if (not old and not new) or any(ch in old + new for ch in "*{}"):
            return
        wishes = self._wishes(ambiguous=False)
        step = step_of([Candidate(old + REST, new + TAKEN)], wishes.keys)
        after = [key or "" for key in operation_from_step(step).plan(wishes.keys).new_keys]
        if any(not wishes.granted(place, after[place]) for place in wishes.free):
            return
        right = sum(after[place] == wish for place, wish in wishes.new.items())
        before = sum(wishes.keys[place] == wish for place, wish in wishes.new.items())
        if right > before:
            self._offer_names(step, after, frozenset(wishes.new))

    def _drop(self, ambiguous: bool) -> None:
        filled = {place for found in self.matching.found if found.evidence == "proved" for place in found.targets}
        whole = len(filled) == len(self.target) - len(self.target.not_tensors)
        by_reason: dict[str, list[int]] = {}
        for place, reason in self.matching.drops.items():
            if (place in self.matching.unsure) == ambiguous:
                by_reason.setdefault(reason, []).append(place)
        for reason, places in by_reason.items():
            gone = set(places)
            wanted = [entry.key for entry in self.entries if self._place(entry) in gone]
            others = [entry.key for entry in self.entries if self._place(entry) not in gone]
            patterns = covering(wanted, others, most=MOST_NAMED)
            if patterns is None:
                self._no_pattern(wanted, "to be left out")
            elif patterns:
                why = reason or "the target has no place for them"
                step = {"op": "drop", "keys": patterns, "why": why}
                evidence: Evidence = "ambiguous" if ambiguous else "proved" if whole else "likely"
                if self._offer(step, [_sentence(why)], evidence) and ambiguous:
                    doubt = Caution(
                        code="second_copy", keys=tuple(wanted[:10]), message=self.matching.unsure[places[0]]
                    )
                    self.suggestions[-1] = replace(self.suggestions[-1], cautions=(doubt,))
                    self.cautions.append(doubt)

    def _no_pattern(self, keys: Sequence[str], what: str) -> None:
        message = f"{text.plural(len(keys), 'key')} {what} {'has' if len(keys) == 1 else 'have'} no regular pattern"
        self.cautions.append(Caution(code="no_pattern", keys=tuple(keys[:10]), message=message))

    def _wishes(self, *, ambiguous: bool) -> Wishes:
        """What is wished of the entries now; the other half of the pairs, and what has no pair, is left free."""
        new: dict[int, str] = {}
        meant: dict[int, str] = {}
        free: set[int] = set()
        for number, entry in enumerate(self.entries):
            place = self._place(entry)
            if place < 0:
                continue
            wish = self.wish.get(place)
            if wish is not None and (ambiguous or self.evidence[place] != "ambiguous"):
                new[number] = wish
                continue
            free.add(number)
            # (under its name in the target nothing is loaded of another shape, and it is seen what has to be decided)
            if wish is not None and self.shapes[wish] not in (None, entry.shape):
                meant[number] = wish
        if ambiguous:
            # What stays behind now stays as it is.
            free.clear()
        return Wishes(self._keys(), new, frozenset(free), frozenset(self.target.keys), meant)

    def _rename(self, ambiguous: bool) -> None:
        wishes = self._wishes(ambiguous=ambiguous)
        rules = find_rules(wishes)
        kept = _with_singles(rules, wishes)
        if kept is None:
            self._no_pattern([wishes.keys[place] for place in rules.unsaid], "to be renamed")
            kept = rules
        meant = frozenset(wishes.new)
        for step, new_keys in steps_of(kept, wishes.keys, at_once=self.at_once):
            self._offer_names(step, new_keys, meant)

    def _offer_names(self, step: Step, new_keys: Sequence[str], meant: frozenset[int]) -> None:
        """Offer a step that was carried out and gave these keys; `meant` are the places of keys that it is for."""
        changed = [
            (number, entry.key, new)
            for number, (entry, new) in enumerate(zip(self.entries, new_keys, strict=True))
            if entry.key != new
        ]
        if not changed:
            return
        places = [self._place(self.entries[number]) for number, _, _ in changed if number in meant]
        self._suggest(operation_from_step(step), places, [(old, new) for _, old, new in changed])
        for number, _, new in changed:
            self.entries[number] = self.entries[number]._replace(key=new)

    def _join_and_cut(self, ambiguous: bool) -> None:
        for relation, said in _GATHERED:
            relations = self._relations(relation, ambiguous)
            open_ones = {one.number for one in relations}
            for proposed in _widest(said, relations):
                if open_ones.issuperset(proposed.found) and self._offer_all(proposed, relations):
                    open_ones.difference_update(proposed.found)
            if open_ones:
                keys = [key for one in relations if one.number in open_ones for key in one.sources]
                if any(self.source.shapes[place] is None for place in self._sources(open_ones)):
                    message = f"{relation}: {text.plural(len(keys), 'key')} whose shapes are not known cannot be tried"
                    self.cautions.append(Caution(code="shapes_unknown", keys=tuple(keys[:10]), message=message))
                else:
                    self._no_pattern(keys, f"({relation})")

    def _sources(self, numbers: Iterable[int]) -> list[int]:
        return [place for number in numbers for place in self.matching.found[number].sources]

    def _relations(self, relation: str, ambiguous: bool) -> list[Keyed]:
        these = [
            (number, found)
            for number, found in enumerate(self.matching.found)
            if found.relation == relation and (found.evidence == "ambiguous") == ambiguous
        ]
        current = {self._place(entry): entry.key for entry in self.entries} if these else {}
        return [
            Keyed(
                number,
                [current[place] for place in found.sources],
                [self.target.keys[place] for place in found.targets],
                found.fields,
            )
            for number, found in these
            if all(place in current for place in found.sources)
        ]

    def _offer_all(self, proposed: Proposed, relations: Sequence[Keyed]) -> bool:
        """Steps that go on with one another, or none of them: they must make just what is wished."""
        entries, count = self.entries, len(self.suggestions)
        numbers = set(proposed.found)
        meant = [one for one in relations if one.number in numbers]
        wanted = {key for one in meant for key in one.targets}
        folded = {parts[0]: parts for _, parts in self.folded.values()}
        used = {place for at in self._sources(one.number for one in meant) for place in folded.get(at, (at,))}
        for step in proposed.steps:
            if not self._offer(step):
                break
        else:
            before = {id(entry.value) for entry in entries}
            made = [entry for entry in self.entries if id(entry.value) not in before]
            taken = {place for entry in made for place in sources(entry.value)}
            turned = any(one.fields.get("transposed") for one in meant)
            if {entry.key for entry in made} == wanted and taken == used and self._shapes_fit(made, turned=turned):
                return True
        self.entries = entries
        del self.suggestions[count:], self.changed[count:]
        return False

    def _shapes_fit(self, made: Sequence[Entry], *, turned: bool) -> bool:
        """Whether what was made has the shapes of the target, if need be when it is transposed then."""
        shapes = [(entry.shape or (), self.shapes[entry.key]) for entry in made]
        if turned:
            shapes = [((*ours[:-2], *reversed(ours[-2:])), theirs) for ours, theirs in shapes]
        return all(theirs is None or ours == tuple(theirs) for ours, theirs in shapes)

    def _change_in_place(self, ambiguous: bool) -> None:
        groups: dict[str, tuple[Step, set[int]]] = {}
        for found in self.matching.found:
            if found.relation in IN_PLACE and (found.evidence == "ambiguous") == ambiguous:
                step = IN_PLACE[found.relation](found, self.source, self.target)
                groups.setdefault(repr(step), (step, set()))[1].update(found.sources)
        for step, places in groups.values():
            for chosen in self._for_these(places, step):
                self._offer(chosen)

    def _turn_made(self, ambiguous: bool) -> None:
        """Transpose what was cut or joined of matrices that lie the other way round."""
        made = {
            self.target.keys[place]
            for found in self.matching.found
            if found.fields.get("transposed") and (found.evidence == "ambiguous") == ambiguous
            for place in found.targets
        }
        for matrices in (True, False):
            wanted = [one.key for one in self.entries if one.key in made and (len(one.shape or ()) == 2) == matrices]
            meant = set(wanted)
            patterns = covering(wanted, [key for key in self._keys() if key not in meant], most=MOST_NAMED)
            if patterns:
                self._offer({"op": "transpose", "keys": patterns} | ({} if matrices else {"dims": [1, 2]}))

    def _for_these(self, places: set[int], step: Step) -> Iterator[Step]:
        wanted = [entry.key for entry in self.entries if self._place(entry) in places]
        others = [entry.key for entry in self.entries if self._place(entry) not in places]
        patterns = covering(wanted, others, most=MOST_NAMED)
        if patterns is None:
            self._no_pattern(wanted, f"({step['op']})")
        elif patterns:
            yield step | ({"keys": patterns} if others else {})

    def _first_target(self, found: Found, place: int) -> int:
        """Of several keys that a tensor gets, the one that it keeps or the first."""
        same = [one for one in found.targets if self.target.keys[one] == self.source.keys[place]]
        return (same or list(found.targets))[0]

    def _tie(self, ambiguous: bool) -> None:
        for found in self.matching.found:
            if found.relation == "tie" and (found.evidence == "ambiguous") == ambiguous:
                home = next((entry.key for entry in self.entries if {*sources(entry.value)} == {*found.sources}), None)
                others = [self.target.keys[place] for place in found.targets if self.target.keys[place] != home]
                if home is not None and others:
                    self._offer({"op": "tie", "from": home, "to": others}, found.reasons, found.evidence)


def _found(operation: Reparametrized, entries: Sequence[Entry]) -> Sequence[Reparametrization]:
    try:
        return operation.find(entries)
    except RepairError:
        return ()


def _with_singles(rules: Rules, wishes: Wishes) -> Rules | None:
    """The rules with one for each key that they do not say; None where that would be a list for no person."""
    if not rules.unsaid:
        return rules
    alone = sum(rule.is_literal for rule in rules.rules)
    if len(rules.unsaid) + alone > MOST_SINGLES:
        return None
    singles = [literal(wishes.keys[place], wishes.new.get(place, wishes.keys[place])) for place in rules.unsaid]
    return executed([*singles, *rules.rules], wishes)


def _said(operation: Operation) -> str:
    """A step for people: its label, and of what it is where the label does not say."""
    if isinstance(operation, EachTensor) and operation.keys:
        return f"{operation.label}: {listed(operation.keys)}"
    return operation.label


def _widest(said: Callable[[Sequence[Keyed]], Iterator[Proposed]], relations: Sequence[Keyed]) -> list[Proposed]:
    """Proposals, alike ones as one that is meant for all that they were meant for; those for most first."""
    joined: dict[str, Proposed] = {}
    for one in said(relations):
        known = joined.get(repr(one.steps))
        found = tuple(dict.fromkeys([*(known.found if known else ()), *one.found]))
        joined[repr(one.steps)] = Proposed(one.steps, found)
    return sorted(joined.values(), key=lambda one: -len(one.found))


_GATHERED: tuple[tuple[str, Callable[[Sequence[Keyed]], Iterator[Proposed]]], ...] = (
    ("split", splits),
    ("concat", fuses),
    ("stack", stacks),
    ("stack_concat", joined_stacks),
    ("unstack", unstacks),
)


def _changed(before: Sequence[Entry], after: Sequence[Entry]) -> list[tuple[int, str, str]]:
    """Place in the source, key before and key after of each tensor that a step changes; "" after a drop."""
    old = {place: entry.key for entry in before for place in sources(entry.value)}
    unchanged = {(id(entry.value), entry.key) for entry in before}
    changed: dict[int, tuple[int, str, str]] = {}
    left: set[int] = set()
    for entry in after:
        places = list(dict.fromkeys(sources(entry.value)))
        left.update(places)
        if (id(entry.value), entry.key) not in unchanged:
            for place in places:
                changed.setdefault(place, (place, old[place], entry.key))
    return [*changed.values(), *[(place, key, "") for place, key in old.items() if place not in left]]


def _weakest(kinds: Iterable[Evidence]) -> Evidence:
    known: tuple[Evidence, ...] = tuple(kinds) or ("likely",)
    return min(known, key=_WEAKEST.index)


def _most_given(reasons: Iterable[tuple[str, ...]]) -> list[str]:
    """The few reasons that most pairs have."""
    counts = Counter([reason for some in reasons for reason in some])
    return [reason for reason, _ in counts.most_common(SHOWN)]


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:].rstrip(".") + "."


def _common_prefix(keys: Sequence[str]) -> list[str]:
    """The components that all keys begin with, and none of them consists of."""
    first, last = min(keys).split(".")[:-1], max(keys).split(".")[:-1]
    common: list[str] = []
    for one, other in zip(first, last, strict=False):
        if one != other:
            break
        common.append(one)
    return common


def _unlike(old: list[str], new: list[str]) -> tuple[str, str]:
    """Two prefixes without what they end with alike, each with its dot."""
    old, new = list(old), list(new)
    while old and new and old[-1] == new[-1]:
        old.pop()
        new.pop()
    return "".join(f"{part}." for part in old), "".join(f"{part}." for part in new)
