"""Tensors that one side stores as several: fused projections and stacked experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sdviewer.repair.matching import weights
from sdviewer.repair.matching.families import Family, Indices, Shape, Side, families
from sdviewer.repair.matching.found import Evidence
from sdviewer.repair.matching.learned import align
from sdviewer.repair.matching.names import HOLE, words_of
from sdviewer.repair.matching.similarity import excluded, name_similarity
from sdviewer.repair.matching.state import State
from sdviewer.repair.matching.words import FUSED, FUSED_COMPONENTS, MEMBERS, ROLES, STEMS

FUSED_WORDS = frozenset(
    {"qkv", "in", "attn", "fused", "c", "query", "kv", "gate", "up", "w12", "w13", "gateup", "input"}
)
NAMED_FUSED = 0.5
"""What a name adds that says what is fused: `qkv`, `gate_up_proj`."""

MOST = 100_000
"""Pairs of families that are tried; of more (a hostile file's) nothing is said."""

MOST_FAMILIES = 10_000
"""Families of one side that are looked at; real checkpoints of 100,000 keys have a few hundred."""

LEAST = 0.35
"""What a fused tensor's name has to score; where its shape fits nothing else, less would be luck."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Families that differ in one word that names a part: `q_proj`, `k_proj`, `v_proj`; `template` is without it."""

    members: tuple[str, ...]
    families: tuple[Family, ...]
    template: tuple[str, ...]
    role: str


def take_fused(state: State) -> None:
    """Find what one side stores fused, and the other in parts that their names tell; the best named first."""
    for split in (True, False):
        fused_side, parts_side = (state.source, state.target) if split else (state.target, state.source)
        fused_free, parts_free = (state.free_s, state.free_t) if split else (state.free_t, state.free_s)
        of_fused, of_parts = families(fused_side, list(fused_free)), families(parts_side, list(parts_free))
        if max(len(of_fused), len(of_parts)) > MOST_FAMILIES:
            return
        apart = _parts(of_parts, parts_side)
        known = all(parts_side.shapes[at] for parts in apart for one in parts.families for _, at in one.members)
        known = known and all(fused_side.shapes[at] is not None for at in fused_free)
        own = {_signature(parts, fused_side, known) for parts in _parts(of_fused, fused_side)}
        groups = [parts for parts in apart if _signature(parts, parts_side, known) not in own]
        scored: list[tuple[float, int, int, _Rows]] = []
        if len(groups) * len(of_fused) > MOST:
            continue
        for n, parts in enumerate(groups):
            for m, family in enumerate(of_fused):
                score = _fused_score(state, parts, family, split, known)
                ordered = _in_order(parts, family)
                if score >= LEAST and (rows := _fit(state, ordered, family, split)):
                    scored.append((score, -n, -m, rows))
        _take_scored(state, scored, groups, of_fused, split)


def _in_order(parts: Parts, family: Family) -> Parts:
    """The parts in the order in which the fused name says them: `up_gate_proj` is up, then gate."""
    words = _last_words(family)
    if not set(parts.members) <= set(words):
        return parts
    order = sorted(range(len(parts.members)), key=lambda at: words.index(parts.members[at]))
    return Parts(
        tuple([parts.members[at] for at in order]),
        tuple([parts.families[at] for at in order]),
        parts.template,
        parts.role,
    )


def _names_all(parts: Parts, family: Family) -> bool:
    return set(parts.members) <= set(_last_words(family))


def _last_words(family: Family) -> tuple[str, ...]:
    last = (family.template[:-1] if family.template[-1] in ROLES else family.template)[-1:]
    return words_of(last[0]) if last else ()


_Rows = list[tuple[int, tuple[int, ...], int, list[int]]]
"""Fused tensor, its parts, the axis, the sizes."""


def _take_scored(
    state: State,
    scored: list[tuple[float, int, int, _Rows]],
    groups: Sequence[Parts],
    of_fused: Sequence[Family],
    split: bool,
) -> None:
    scored.sort(reverse=True, key=lambda one: one[:3])
    used_parts: set[int] = set()
    used_fused: set[int] = set()
    for score, n, m, rows in scored:
        if n in used_parts or m in used_fused:
            continue
        used_parts.add(n)
        used_fused.add(m)
        rivals = [
            one[0]
            for one in scored
            if ((one[1] == n) != (one[2] == m))
            and (one[1] not in used_parts or one[1] == n)
            and (one[2] not in used_fused or one[2] == m)
        ]
        evidence: Evidence = "likely" if score - max(rivals, default=0.0) > 0.1 else "ambiguous"
        parts = _in_order(groups[-n], of_fused[-m])
        if parts.members[0] in ("gate", "up") and not _names_all(parts, of_fused[-m]):
            evidence = "ambiguous"  # Nobody can tell which half is which: both orders are in use.
        _take_rows(state, parts, of_fused[-m], rows, split, evidence)


def _take_rows(state: State, parts: Parts, family: Family, rows: _Rows, split: bool, evidence: Evidence) -> None:
    names = ", ".join(parts.members)
    for at, others, dim, sizes in rows:
        told = (
            f"Its {sum(sizes)} entries along axis {dim} are those of {names}: {' + '.join(map(str, sizes))}",
            f"{names} are its parts by their names, in the order in which they are stored fused",
        )
        if split:
            state.take([at], others, "split", {"dim": dim, "sizes": sizes}, evidence=evidence, by="shape", reasons=told)
        else:
            state.take(others, [at], "concat", {"dim": dim}, evidence=evidence, by="shape", reasons=told)
    for one in parts.families:
        state.learned.accept(*((family.template, one.template) if split else (one.template, family.template)))


def _parts(some: Sequence[Family], side: Side) -> list[Parts]:
    groups: dict[tuple[tuple[str, ...], str], dict[str, Family]] = {}
    for family in some:
        role = side.names[family.members[0][1]].role
        for at in range(max(0, len(family.template) - 3), len(family.template)):
            part = family.template[at]
            named = _member(part)
            if named:
                member, stem = named
                key = (*family.template[:at], stem, *family.template[at + 1 :])
                groups.setdefault((key, role), {}).setdefault(member, family)
                break
    found = []
    for (template, role), members in groups.items():
        for names in FUSED:
            if all(name in members and len(members[name]) == len(members[names[0]]) for name in names):
                found.append(Parts(names, tuple([members[name] for name in names]), template, role))
                break
    return found


def _member(part: str) -> tuple[str, str] | None:
    """The part that a component names, and the component without it."""
    if part in MEMBERS:
        return MEMBERS[part], "*"
    words = words_of(part)
    named = [word for word in words if word in MEMBERS]
    if len(named) != 1 or len(words) > 4:
        return None
    return MEMBERS[named[0]], "_".join([word for word in words if word != named[0] and word not in STEMS]) + "*"


def _signature(parts: Parts, side: Side, known: bool) -> tuple[object, ...]:
    if not known:
        return parts.members, parts.role, len(parts.families[0])
    shapes = frozenset([side.shapes[at] for family in parts.families for _, at in family.members])
    return parts.members, parts.role, len(parts.families[0]), shapes


def _fused_score(state: State, parts: Parts, family: Family, split: bool, known: bool) -> float:
    """How well a fused tensor is named for its parts; 0 for what is named for one of them or something else."""
    side = state.source if split else state.target
    if len(family) != len(parts.families[0]) or side.names[family.members[0][1]].role != parts.role:
        return 0.0
    last = (family.template[:-1] if family.template[-1] in ROLES else family.template)[-1:]
    words = set(_last_words(family))
    named = _names_all(parts, family)
    if (words & set(MEMBERS) and not named) or (last and last[0] in MEMBERS):
        return 0.0
    other = bool(last) and last[0] in FUSED_COMPONENTS
    if not known and not named and not other:
        return 0.0
    template = tuple([part.replace("*", "").strip("_") or "*" for part in parts.template])
    score = name_similarity(template, family.template) + weights.EXCLUDED * excluded(template, family.template)
    score += max(
        state.learned.prefix(*((family.template, one.template) if split else (one.template, family.template)))
        for one in parts.families
    )
    return score + (2 * NAMED_FUSED if named else NAMED_FUSED if other else 0.0)


def _fit(state: State, parts: Parts, family: Family, split: bool) -> _Rows:
    """The fused tensors with their parts, the axis and the sizes; nothing if some shape does not fit."""
    fused_side, parts_side = (state.source, state.target) if split else (state.target, state.source)
    columns: list[dict[int, int]] = []
    for one in parts.families:
        pairs, _ = align(family, one, state.learned) if split else align(one, family, state.learned)
        columns.append(dict(pairs) if split else {b: a for a, b in pairs})
    rows = []
    for _, at in family.members:
        others = tuple([column.get(at, -1) for column in columns])
        if -1 in others:
            return []
        fitted = _axis(fused_side.shapes[at], [parts_side.shapes[other] for other in others])
        if fitted is None:
            return []
        rows.append((at, others, *fitted))
    return rows


def _axis(fused: Shape, parts: Sequence[Shape]) -> tuple[int, list[int]] | None:
    """The axis along which parts make up a whole, and their sizes along it."""
    if fused is None or None in parts:
        if fused is None:
            return (0, [part[0] if part else 0 for part in parts]) if all(parts) else (0, [0] * len(parts))
        size = fused[0] if fused else 0
        return (0, [size // len(parts)] * len(parts)) if size and size % len(parts) == 0 else None
    known = [part for part in parts if part is not None]
    for dim in range(min(2, len(fused))):
        if (
            all(
                len(part) == len(fused) and part[:dim] + part[dim + 1 :] == fused[:dim] + fused[dim + 1 :]
                for part in known
            )
            and sum([part[dim] for part in known]) == fused[dim]
        ):
            return dim, [part[dim] for part in known]
    return None


def take_stacked(state: State) -> None:
    """Find experts that one side stores one by one, the other stacked, gate and up joined or not."""
    for stack in (True, False):
        many, one = (state.source, state.target) if stack else (state.target, state.source)
        of_many = families(many, list(state.free_s if stack else state.free_t))
        of_one = families(one, list(state.free_t if stack else state.free_s))
        stacks = [target for target in of_one if _may_be_stacked(target, one)]
        if not stacks:
            continue
        if len(of_many) > MOST_FAMILIES or len(stacks) * len(of_many) > MOST:
            continue
        lists = [listed for family in of_many if (listed := _listed(family)) is not None]
        if stack:
            _take_joined(state, lists, stacks)
        for family, rows in lists:
            _take_stack(state, family, rows, stacks, stack)


_Lists = Mapping[Indices, list[int]]
"""Indices without that of the list -> positions in the order of the list."""


def _may_be_stacked(family: Family, side: Side) -> bool:
    shape = side.shapes[family.members[0][1]]
    return len(shape) > 1 if shape is not None else _of_experts(family.template)


def _of_experts(template: Sequence[str]) -> bool:
    return any("experts" in part for part in template)


def _listed(family: Family) -> tuple[Family, _Lists] | None:
    """The family by its last index: lists of equal length, counted from 0."""
    if not family.members[0][0] or len(family) < 2:
        return None
    rows: dict[Indices, list[tuple[int, int]]] = {}
    for indices, at in family.members:
        rows.setdefault(indices[:-1], []).append((indices[-1], at))
    found = {}
    for indices, row in rows.items():
        row.sort()
        if [number for number, _ in row] != list(range(len(row))):
            return None
        found[indices] = [at for _, at in row]
    return (family, found) if len({len(row) for row in found.values()}) == 1 else None


def _take_joined(state: State, lists: Sequence[tuple[Family, _Lists]], stacks: Sequence[Family]) -> None:
    """Gate and up of each expert joined, then stacked."""
    rows_of = {id(family): rows for family, rows in lists}
    for parts in _parts([family for family, _ in lists], state.source):
        if parts.members != ("gate", "up"):
            continue
        gate, up = (rows_of[id(family)] for family in parts.families)
        if list(gate) != list(up):
            continue
        best, pairs = _best_stack(state, parts.families[0], gate, stacks, True, joined=True)
        if best is None:
            continue
        for indices, at in pairs:
            n = len(gate[indices])
            shape = state.source.shapes[gate[indices][0]] or ()
            stacked = state.target.shapes[at]
            dim = _joined_axis(shape, stacked[1:]) if stacked else 0
            told = (
                f"{n} experts: gate and up of each joined, then all stacked",
                "gate before up, as their names say and as they are stored",
            )
            fields: dict[str, Any] = {"stack_dim": 0, "concat_dim": dim, "parts": 2}
            if dim is None and stacked:
                fields |= {"concat_dim": _joined_axis(shape, _turned(stacked[1:])), "transposed": True}
            state.take(
                [*gate[indices], *up[indices]],
                [at],
                "stack_concat",
                fields,
                evidence="likely",
                by="shape",
                reasons=told,
            )
        state.learned.accept(parts.families[0].template, best.template)


def _joined_axis(shape: tuple[int, ...], joined: tuple[int, ...]) -> int | None:
    """The axis along which two of one shape are joined to the other."""
    if len(shape) != len(joined):
        return None
    doubled = [dim for dim in range(len(shape)) if joined[dim] == 2 * shape[dim]]
    rest = [dim for dim in range(len(shape)) if joined[dim] == shape[dim]]
    return doubled[0] if len(doubled) == 1 and len(rest) == len(shape) - 1 else None


def _take_stack(state: State, family: Family, rows: _Lists, stacks: Sequence[Family], stack: bool) -> None:
    best, pairs = _best_stack(state, family, rows, stacks, stack, joined=False)
    if best is None:
        return
    for indices, at in pairs:
        row = rows[indices]
        told: tuple[str, ...] = (
            f"{len(row)} of one shape on one side, one tensor with {len(row)} along axis 0 on the other",
        )
        fields: dict[str, Any] = {"dim": 0}
        many, one = (state.source, state.target) if stack else (state.target, state.source)
        shape, stacked = many.shapes[row[0]], one.shapes[at]
        if shape is not None and stacked is not None and shape != stacked[1:]:
            fields["transposed"] = True
            told = (*told, "Each lies the other way round there")
        if stack:
            state.take(row, [at], "stack", fields, evidence="likely", by="shape", reasons=told)
        else:
            state.take([at], row, "unstack", fields, evidence="likely", by="shape", reasons=told)
    state.learned.accept(*((family.template, best.template) if stack else (best.template, family.template)))


def _best_stack(
    state: State, family: Family, rows: _Lists, stacks: Sequence[Family], stack: bool, *, joined: bool
) -> tuple[Family | None, list[tuple[Indices, int]]]:
    many, one = (state.source, state.target) if stack else (state.target, state.source)
    free_many, free_one = (state.free_s, state.free_t) if stack else (state.free_t, state.free_s)
    best: Family | None = None
    best_score, found = 0.3, []
    template = tuple([part for part in family.template if part != HOLE or part is family.template[0]])
    for target in stacks:
        if len(target) != len(rows) or any(at not in free_one for _, at in target.members):
            continue
        if one.shapes[target.members[0][1]] is None and not _named_alike(family.template, target.template, joined):
            continue
        if not joined and excluded(template, target.template) and _of_experts(template):
            continue  # gate_proj is not down_proj, though it has the shape of one that lies the other way round
        pairs = list(zip(sorted(rows), [at for _, at in sorted(target.members)], strict=True))
        fits = all(_stacks(many, rows[indices], one.shapes[at], joined) for indices, at in pairs)
        if not fits or any(at not in free_many for row in rows.values() for at in row):
            continue
        score = name_similarity(template, target.template) + state.learned.prefix(
            *((family.template, target.template) if stack else (target.template, family.template))
        )
        if score > best_score:
            best, best_score, found = target, score, pairs
    return best, found


def _named_alike(template: Sequence[str], stacked: tuple[str, ...], joined: bool) -> bool:
    """Whether names say that one is a list of what the other stacks, where shapes do not."""
    words = set(words_of(stacked[-2 if stacked[-1] in ROLES else -1]))
    if not _of_experts(template) or joined != ({"gate", "up"} <= words):
        return False
    return joined or not excluded(tuple(template), stacked)


def _stacks(many: Side, row: Sequence[int], stacked: Shape, joined: bool) -> bool:
    shape = many.shapes[row[0]]
    if stacked is None:
        return all(many.shapes[at] == shape for at in row)
    if not stacked or stacked[0] != len(row):
        return False
    if shape is None or any(many.shapes[at] != shape for at in row):
        return False
    one = stacked[1:]
    if joined:
        return _joined_axis(shape, one) is not None or _joined_axis(shape, _turned(one)) is not None
    return shape == one or (len(shape) == 2 and shape == _turned(one))


def _turned(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[::-1] if len(shape) == 2 else shape
