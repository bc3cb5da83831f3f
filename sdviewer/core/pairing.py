"""Which tensor of A stands for which of B, told by their names, and by their contents where names do not tell.

Everything here is about two lists of keys; where the bytes are nobody here knows. `Contents` asks somebody who does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.optimizer_names import parameter_names
from sdviewer.core.paths import dotted

Match = Literal["key", "prefix", "auto"]
By = Literal["", "key", "prefix", "content", "name", "hand"]

MATCHES: tuple[Match, ...] = ("key", "prefix", "auto")

VOTERS = 4000
"""Keys that are asked for a prefix exchange: those of 100,000 say nothing else."""

CANDIDATES = 8
"""Exchanges that are tried on all keys, those with most votes; and prefixes that one key may vote for."""

DEEPEST = 32
"""Components of a prefix, at most: a key of a hostile file can have a million."""

EXCHANGES = 16
"""Prefix exchanges that `auto` makes one after the other, at most."""

Contents = Callable[[Sequence[int], Sequence[int]], tuple[Sequence[Hashable], Sequence[Hashable]]]
"""Positions in A and in B -> for each what is equal for equal contents, None where they cannot be read."""


Matcher = Callable[
    ["Side", "Side", Collection[tuple[int, int]], Collection[tuple[int, int]]], Iterator[tuple[int, int]]
]
"""Both sides, the pairs made so far and those refused -> more pairs, told by names, shapes and order."""


class Pair(NamedTuple):
    """A position in the list of each side, -1 where there is none; and what brought them together, "" if nothing."""

    a: int
    b: int
    by: By


class Exchange(NamedTuple):
    """A prefix of A's keys and the one that B has in its place, with their dots; "" for none."""

    a: str
    b: str


@dataclass(frozen=True, slots=True)
class Side:
    """The entries of one side in file order.

    `tensors` are indexes into `Checkpoint.tensors`, or what else the caller knows them by. `names` is what an entry is
    matched by instead of its key, by position: an optimizer's by the name of its parameter.
    """

    keys: Sequence[str]
    shapes: Sequence[tuple[int, ...]]
    dtypes: Sequence[str]
    tensors: Sequence[int]
    names: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class Pairing:
    """All pairs: A's order, then what only B has. `exchanges` are the prefix exchanges that were made for it."""

    pairs: tuple[Pair, ...]
    exchanges: tuple[Exchange, ...] = ()


def side_of_state_dict(checkpoint: Checkpoint, index: int, keys: Sequence[str | None] | None = None) -> Side:
    """The tensors of one state dict by their keys, or by those that a plan gives its entries, None where one goes."""
    state_dict = checkpoint.state_dicts[index]
    found = zip(state_dict.keys if keys is None else keys, state_dict.tensor_of, strict=True)
    entries = [(key, at) for key, at in found if at >= 0 and key is not None]
    names = {}
    if state_dict.role == "optimizer":
        parameters = parameter_names(checkpoint, index)
        names = {i: name for i, (key, _) in enumerate(entries) if (name := _by_parameter(key, parameters))}
    return _side(checkpoint, entries, names)


def side_of_file(checkpoint: Checkpoint) -> Side:
    """All tensors of a file by their dotted paths, without the parts of those that are made of parts."""
    parts = _parts(checkpoint)
    entries = [(dotted(info.path), at) for at, info in enumerate(checkpoint.tensors) if at not in parts]
    names: dict[int, str] = {}
    for index, state_dict in enumerate(checkpoint.state_dicts):
        if state_dict.role == "optimizer" and (parameters := parameter_names(checkpoint, index)):
            before = dotted(state_dict.path)
            before += "." if before else ""
            for position, (key, _) in enumerate(entries):
                if key.startswith(before) and (name := _by_parameter(key[len(before) :], parameters)):
                    names[position] = before + name
    return _side(checkpoint, entries, names)


def _side(checkpoint: Checkpoint, entries: Sequence[tuple[str, int]], names: Mapping[int, str]) -> Side:
    infos = [checkpoint.tensors[at] for _, at in entries]
    return Side(
        tuple([key for key, _ in entries]),
        [info.shape for info in infos],
        [info.dtype for info in infos],
        [at for _, at in entries],
        names,
    )


def _parts(checkpoint: Checkpoint) -> set[int]:
    """The rows of a sparse or nested tensor's parts: their whole stands for them."""
    found: set[int] = set()
    tensors = checkpoint.tensors
    for at, info in enumerate(tensors):
        if info.kind not in ("sparse", "nested"):
            continue
        for place in range(at + 1, len(tensors)):
            if tensors[place].path[: len(info.path)] != info.path:
                break
            found.add(place)
    return found


def _by_parameter(key: str, parameters: Mapping[str, str]) -> str:
    """`state.12.exp_avg` with the parameter's name for its number; "" where there is none."""
    first, _, rest = key.partition(".")
    number, _, what = rest.partition(".")
    return f"state.{parameters[number]}.{what}" if first == "state" and number in parameters else ""


def statuses(a: Side, b: Side, pairs: Sequence[Pair]) -> list[str]:
    """What the headers tell of each pair: only_a, only_b, shape or dtype; "" where the bytes have to be compared."""
    return [
        "only_a" if j < 0
        else "only_b" if i < 0
        else "shape" if tuple(a.shapes[i]) != tuple(b.shapes[j])
        else "dtype" if a.dtypes[i] != b.dtypes[j]
        else ""
        for i, j, _ in pairs
    ]  # fmt: skip


def pair_up(
    a: Side,
    b: Side,
    match: Match = "key",
    *,
    hand: Collection[tuple[int, int]] = (),
    broken: Collection[tuple[int, int]] = (),
    by_parameter: bool = True,
    contents: Contents | None = None,
    matcher: Matcher | None = None,
) -> Pairing:
    """Bring the entries of both sides together.

    `key`: equal keys. `prefix`: then those that are equal after the one exchange of prefixes that pairs most of what is
    left. `auto`: after as many exchanges as there are good ones, by equal contents under another name, where `contents`
    can be asked, and what `matcher` finds of the rest. Pairs made by `hand` come first; `broken` ones are not made. The
    names of optimizer entries are taken if both sides have them and `by_parameter`. A key that stands twice is paired
    in order.
    """
    pairing = _Pairing(a, b, frozenset(broken), by_parameter and bool(a.names) and bool(b.names))
    for one, other in hand:
        pairing.take(one, other, "hand")
    pairing.by_key()
    if match == "prefix":
        pairing.by_prefix(1, least=1)
    elif match == "auto":
        # One tensor that ends alike says less than equal contents: `weight` of some head and `weight` of some other.
        pairing.by_prefix(EXCHANGES, least=2)
        if contents is not None:
            pairing.by_content(contents)
        if matcher is not None:
            pairing.by_name(matcher)
        if not pairing.exchanges:
            pairing.by_prefix(1, least=1)
    return pairing.result()


class _Pairing:
    """The pairs found so far, and what is left on either side."""

    def __init__(self, a: Side, b: Side, broken: frozenset[tuple[int, int]], named: bool) -> None:
        self._a, self._b, self._broken = a, b, broken
        self._names = [_names(side, named) for side in (a, b)]
        self._of: dict[int, tuple[int, By]] = {}
        self._taken: set[int] = set()
        self.exchanges: list[Exchange] = []

    def take(self, a: int, b: int, by: By) -> None:
        """Make a pair, if both are free."""
        if a not in self._of and b not in self._taken and (by == "hand" or (a, b) not in self._broken):
            self._of[a] = (b, by)
            self._taken.add(b)

    def _left(self) -> tuple[list[int], list[int]]:
        return (
            [i for i in range(len(self._a)) if i not in self._of],
            [i for i in range(len(self._b)) if i not in self._taken],
        )

    def by_key(self) -> None:
        names_a, names_b = self._names
        left_a, left_b = self._left()
        places = _places(names_b, left_b)
        for i in left_a:
            for j in places.get(names_a[i], ()):
                if j not in self._taken and (i, j) not in self._broken:
                    self.take(i, j, "key")
                    break

    def by_prefix(self, most: int, least: int) -> None:
        """Exchange prefixes, the best first, as long as each pairs at least so many of one shape, and mostly such."""
        for _ in range(most):
            left_a, left_b = self._left()
            found = self._best_exchange(left_a, left_b, least)
            if found is None:
                return
            exchange, pairs = found
            self.exchanges.append(exchange)
            for i, j in pairs:
                self.take(i, j, "prefix")

    def _best_exchange(
        self, left_a: list[int], left_b: list[int], least: int
    ) -> tuple[Exchange, list[tuple[int, int]]] | None:
        names_a, names_b = self._names
        best: tuple[Exchange, list[tuple[int, int]]] | None = None
        most = (0, 0)
        places = _places(names_b, left_b)
        for exchange in _candidates([names_a[i] for i in left_a], [names_b[j] for j in left_b]):
            pairs = self._exchanged(exchange, left_a, places)
            alike = sum([self._a.shapes[i] == self._b.shapes[j] for i, j in pairs])
            if alike >= least and 2 * alike >= len(pairs) and (alike, len(pairs)) > most:
                best, most = (exchange, pairs), (alike, len(pairs))
        return best

    def _exchanged(
        self, exchange: Exchange, left_a: list[int], places: Mapping[str, list[int]]
    ) -> list[tuple[int, int]]:
        """The pairs that an exchange makes of what is left."""
        names, (before, after) = self._names[0], exchange
        pairs, taken = [], set()
        for i in left_a:
            name = names[i]
            if name.startswith(before):
                for j in places.get(after + name[len(before) :], ()):
                    if j not in taken and (i, j) not in self._broken:
                        taken.add(j)
                        pairs.append((i, j))
                        break
        return pairs

    def by_content(self, contents: Contents) -> None:
        """Pair equal contents: those that only one tensor of either side has, and those of equally named ones."""
        a, b = self._a, self._b
        left_a, left_b = self._left()
        kinds_a = {(a.shapes[i], a.dtypes[i]) for i in left_a if 0 not in a.shapes[i]}
        kinds_b = {(b.shapes[j], b.dtypes[j]) for j in left_b}
        left_a = [i for i in left_a if (a.shapes[i], a.dtypes[i]) in kinds_b and 0 not in a.shapes[i]]
        left_b = [j for j in left_b if (b.shapes[j], b.dtypes[j]) in kinds_a]
        if not left_a or not left_b:
            return
        of_a, of_b = contents(left_a, left_b)
        known_a = [
            (i, (a.shapes[i], a.dtypes[i], what)) for i, what in zip(left_a, of_a, strict=True) if what is not None
        ]
        known_b = [
            (j, (b.shapes[j], b.dtypes[j], what)) for j, what in zip(left_b, of_b, strict=True) if what is not None
        ]
        self._take_alike(known_a, known_b, most=1)
        # Ones, zeros and counters are many and equal: their last component and their order tell them apart.
        names_a, names_b = self._names
        self._take_alike(
            [(i, (what, names_a[i].rpartition(".")[2])) for i, what in known_a if i not in self._of],
            [(j, (what, names_b[j].rpartition(".")[2])) for j, what in known_b if j not in self._taken],
        )

    def by_name(self, matcher: Matcher) -> None:
        """Pair what the matching engine finds of the rest."""
        if all(self._left()):
            made = [(i, j) for i, (j, _) in self._of.items()]
            for i, j in matcher(self._a, self._b, made, self._broken):
                self.take(i, j, "name")

    def _take_alike(
        self, of_a: Sequence[tuple[int, Hashable]], of_b: Sequence[tuple[int, Hashable]], most: int = 0
    ) -> None:
        """Pair in order those that are alike, where as many of A are as of B; and not more than `most`, if given."""
        alike: dict[Hashable, tuple[list[int], list[int]]] = {}
        for which, side in enumerate((of_a, of_b)):
            for position, what in side:
                alike.setdefault(what, ([], []))[which].append(position)
        for some, others in alike.values():
            if len(some) == len(others) and (not most or len(some) <= most):
                for i, j in zip(some, others, strict=True):
                    self.take(i, j, "content")

    def result(self) -> Pairing:
        pairs = [Pair(i, *self._of.get(i, (-1, ""))) for i in range(len(self._a))]
        pairs += [Pair(-1, j, "") for j in range(len(self._b)) if j not in self._taken]
        return Pairing(tuple(pairs), tuple(self.exchanges))


def _names(side: Side, named: bool) -> Sequence[str]:
    if not named:
        return side.keys
    return [side.names.get(position, key) for position, key in enumerate(side.keys)]


def _places(names: Sequence[str], left: Sequence[int]) -> dict[str, list[int]]:
    """Where each name stands among what is left."""
    places: dict[str, list[int]] = {}
    for position in left:
        places.setdefault(names[position], []).append(position)
    return places


def _candidates(of_a: Sequence[str], of_b: Sequence[str]) -> list[Exchange]:
    """The exchanges that most keys of A would need to become one of B, most first.

    A key asks for what turns it into the keys of B with which it has the longest end in common.
    """
    if not of_a or not of_b:
        return []
    voters = of_a[:: -(-len(of_a) // VOTERS)]
    wanted = {name[at:] for name in voters for at in _cuts(name)}
    prefixes: dict[str, list[str]] = {}
    for name in of_b:
        for at in _cuts(name):
            rest = name[at:]
            if rest in wanted:
                some = prefixes.setdefault(rest, [])
                if len(some) < CANDIDATES:
                    some.append(name[:at])
    votes: Counter[Exchange] = Counter()
    for name in voters:
        cut = next((at for at in _cuts(name) if name[at:] in prefixes), len(name))
        votes.update([Exchange(name[:cut], other) for other in prefixes.get(name[cut:], ()) if other != name[:cut]])
    return [exchange for exchange, _ in votes.most_common(CANDIDATES)]


def _cuts(name: str) -> Iterator[int]:
    """Where a component of a key begins, from the front; a prefix has no more than `DEEPEST`."""
    yield 0
    at = name.find(".")
    for _ in range(DEEPEST):
        if at < 0:
            return
        yield at + 1
        at = name.find(".", at + 1)
