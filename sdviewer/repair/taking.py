"""The `take` step that puts chosen tensors of another checkpoint in, as short as it can be said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from sdviewer.errors import NoMatch, UsageError
from sdviewer.repair.operations.rename import Rename
from sdviewer.repair.operations.take import Take
from sdviewer.repair.patterns import literal_pattern, literal_rule, prefix_rule
from sdviewer.repair.scope import MOST_KEYS, below
from sdviewer.repair.state_dicts import AUTO

MOST_FAMILIES = 64
"""Ways in which numbers stand in keys, up to which those that differ in them only are looked for."""


def take_step(pairs: Sequence[tuple[str | None, str]], path: str, keys: Sequence[str], state_dict: str = AUTO) -> Take:
    """The step that takes the second of each pair, a key of the checkpoint at `path`, under the first, its key here.

    None: the key is not here; the tensor is added, under the prefix that the others have here. `keys` are those of all
    tensors of that `state_dict` (its dotted path): where all below a module are taken the step names the module.

    Raises:
        NoMatch: there is nothing to take.
        UsageError: too many keys would have to be named one by one.
    """
    if not pairs:
        raise NoMatch("there is nothing to take")
    chosen = dict.fromkeys([key for _, key in pairs])
    patterns = () if chosen.keys() >= set(keys) else _patterns(chosen, keys)
    here = {key: new for new, key in pairs if new is not None}
    rules = _rules(here, follow=len(here) < len(pairs))
    if max(len(patterns), len(rules)) > MOST_KEYS:
        raise UsageError(
            f"more than {MOST_KEYS:,} keys would have to be named one by one",
            remedy="Take modules, or all differences.",
        )
    return Take(path=path, state_dict=state_dict, keys=tuple(patterns), to=tuple(rules))


def _patterns(chosen: Collection[str], keys: Sequence[str]) -> Sequence[str]:
    """Patterns that mean the chosen of all keys and no other, the shorter list of two ways to say it."""
    return min(_whole_modules(chosen, keys), _alike(chosen, keys), key=len)


def _whole_modules(chosen: Collection[str], keys: Sequence[str]) -> list[str]:
    """The topmost modules of which all is chosen, and what is left key by key."""
    left = Counter(above for key in keys if key not in chosen for above in _above(key))
    found: dict[str, None] = {}
    for key in chosen:
        module = next((above for above in _above(key) if not left[above]), None)
        found[literal_pattern(key) if module is None else below(module)] = None
    return list(found)


def _above(key: str) -> Iterator[str]:
    """The prefixes of a key with their dots, the shortest first."""
    at = key.find(".")
    while at >= 0:
        yield key[: at + 1]
        at = key.find(".", at + 1)


def _alike(chosen: Collection[str], keys: Sequence[str]) -> list[str]:
    """Keys that differ in their numbers only as one pattern, where nothing else that it means stays."""
    families: dict[str, list[str]] = {}
    starred: dict[Stars, None] = {}
    for key in chosen:
        stars = _numbers(key)
        starred[stars] = None
        families.setdefault(_masked(key, stars), []).append(key)
    if len(starred) > MOST_FAMILIES:
        return list(map(literal_pattern, chosen))
    # A star stands for a component that is no number too.
    stay = {_masked(key, stars) for key in keys if key not in chosen for stars in starred if key.count(".") == stars[0]}
    found: list[str] = []
    for pattern, members in families.items():
        together = len(members) > 1 and pattern not in stay and all(literal_pattern(key) == key for key in members)
        found += [pattern] if together else map(literal_pattern, members)
    return found


Stars = tuple[int, ...]
"""How many dots a key has, and which of its components are numbers."""


def _numbers(key: str) -> Stars:
    return (key.count("."), *[at for at, piece in enumerate(key.split(".")) if piece.isdecimal()])


def _masked(key: str, stars: Stars) -> str:
    pieces = key.split(".")
    for at in stars[1:]:
        pieces[at] = "*"
    return ".".join(pieces)


def _rules(here: Mapping[str, str], *, follow: bool) -> list[tuple[str, str]]:
    """Rules that give each key its own here: one exchange of a prefix, and before it what that does not give.

    Key by key where that is shorter, unless other keys shall `follow` the exchange.
    """
    exchanges = Counter([found for key, new in here.items() if key != new and (found := _exchange(key, new))])
    common = [prefix_rule(*exchange) for exchange, _ in exchanges.most_common(1)]
    changed = Rename(rules=tuple(common)).change(list(here)).new_keys if common else list(here)
    others = [literal_rule(key, new) for (key, new), found in zip(here.items(), changed, strict=True) if found != new]
    alone = [literal_rule(key, new) for key, new in here.items() if key != new]
    rules = [*others, *common]
    return rules if len(rules) < len(alone) or (follow and common) else alone


def _exchange(key: str, new: str) -> tuple[str, str] | None:
    """The prefixes of two keys before the components that both end with, each with its dot; None for no such end."""
    theirs, ours = key.split("."), new.split(".")
    n = 0
    while n < min(len(theirs), len(ours)) and theirs[-1 - n] == ours[-1 - n]:
        n += 1
    if not n:
        return None
    before, after = ("".join([f"{piece}." for piece in pieces[:-n]]) for pieces in (theirs, ours))
    return before, after
