"""The `take` step that puts chosen tensors of another checkpoint in, as short as it can be said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from sdviewer.errors import NoMatch, UsageError
from sdviewer.repair.operations.rename import Rename
from sdviewer.repair.operations.take import Take
from sdviewer.repair.patterns import compile_pattern, literal_pattern, literal_rule, prefix_rule
from sdviewer.repair.scope import MOST_KEYS, below
from sdviewer.repair.state_dicts import AUTO


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
    """Keys that differ in their numbers only as one pattern, where all of these are chosen."""
    families: dict[str, list[str]] = {}
    for key in keys:
        families.setdefault(_family(key), []).append(key)
    found: list[str] = []
    for pattern, members in families.items():
        taken = [key for key in members if key in chosen]
        means = compile_pattern(pattern).matches if len(taken) > 1 else None
        # (a component that is no number matches too)
        if means is not None and len(taken) == len(members) and all(key in chosen for key in filter(means, keys)):
            found.append(pattern)
        else:
            found += map(literal_pattern, taken)
    return found


def _family(key: str) -> str:
    """A key with a star for each number in it; itself where it holds what a pattern reads otherwise."""
    pieces = ["*" if piece.isdecimal() else piece for piece in key.split(".")]
    return ".".join(pieces) if literal_pattern(key) == key else literal_pattern(key)


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
