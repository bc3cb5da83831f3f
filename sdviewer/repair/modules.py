"""Where the entries of a state dict's `_metadata` go when its keys are renamed.

`_metadata` maps module paths (no dot at the end, "" for the whole) to their versions; torch looks a module's version up
by its path when it loads, so an entry left behind makes old layers load as if they had no version.
"""

from __future__ import annotations

from collections.abc import Sequence


def strip_prefix(modules: Sequence[str], prefix: str, new_keys: Sequence[str | None]) -> dict[str, str | None]:
    """What torch's `consume_prefix_in_state_dict_if_present` does to `_metadata`.

    The entry of the stripped module replaces that of its wrapper. For a prefix of several components the result is that
    of stripping them one after the other: wrappers between go too, unless keys remain in them.
    """
    places: dict[str, str | None] = {}
    known = set(modules)
    for module in modules:
        if module and (module + "." == prefix or module.startswith(prefix)):
            places[module] = module[len(prefix) :]
    if prefix[:-1] in known and prefix.endswith("."):
        above = prefix[:-1].rpartition(".")[0]
        while above:
            if above in known and not any(key is not None and key.startswith(above + ".") for key in new_keys):
                places[above] = None
            above = above.rpartition(".")[0]
    taken = {place for place in places.values() if place is not None}
    for module in modules:
        if module not in places and module in taken:
            places[module] = None
    return places


def strip_components(modules: Sequence[str], components: Sequence[str]) -> dict[str, str | None]:
    """Take components out of every path; of entries that meet, the innermost module's stays."""
    gone = set(components)
    places = {module: ".".join([part for part in module.split(".") if part not in gone]) for module in modules}
    innermost: dict[str, str] = {}
    for module, place in places.items():
        if place not in innermost or module.count(".") > innermost[place].count(".") or not innermost[place]:
            innermost[place] = module
    moved: dict[str, str | None] = {
        module: place if innermost[place] == module else None for module, place in places.items()
    }
    return {module: place for module, place in moved.items() if place != module}


def add_prefix(modules: Sequence[str], prefix: str) -> dict[str, str | None]:
    """Put a prefix before every path; the entry of the whole becomes that of the module the prefix names."""
    whole = prefix.rpartition(".")[0]
    places: dict[str, str | None] = {module: prefix + module if module else whole for module in modules}
    return {module: place for module, place in places.items() if place != module}


def replace_prefix(modules: Sequence[str], old: str, new: str) -> dict[str, str | None]:
    """Exchange a prefix; an entry that would meet another stays where it is."""
    places: dict[str, str] = {}
    for module in modules:
        if module.startswith(old):
            places[module] = new + module[len(old) :]
        elif module and module + "." == old and (not new or new.endswith(".")):
            places[module] = new.removesuffix(".")
    return _without_meetings(modules, places)


def follow_keys(modules: Sequence[str], keys: Sequence[str], new_keys: Sequence[str | None]) -> dict[str, str | None]:
    """Follow the keys: a path moves when every key below it moved to the same place.

    The place is read off a key by taking as many components off its end as the old key has below the path. A module
    without keys moves with the nearest module above it that has some. The whole ("") moves only when all keys just get
    a prefix.
    """
    if not modules:
        return {}
    targets = _targets(keys, new_keys)
    whole = targets.get("")
    if whole and not all(new is None or new == f"{whole}.{old}" for old, new in zip(keys, new_keys, strict=True)):
        # The only module of a model went somewhere else; the model itself did not become a part of another.
        targets[""] = ""
    places: dict[str, str] = {}
    for module in modules:
        home = module
        while home and home not in targets:
            home = home.rpartition(".")[0]
        place = targets.get(home)
        if place is not None and place != home:
            below = module[len(home) + 1 :] if home else module
            places[module] = f"{place}.{below}" if place and below else place or below
    return _without_meetings(modules, places)


def _targets(keys: Sequence[str], new_keys: Sequence[str | None]) -> dict[str, str | None]:
    """For every module path with keys below it: the place they all went to, None where there is no such place."""
    places: dict[str, set[str | None]] = {}
    for old, new in zip(keys, new_keys, strict=True):
        if new is None:
            continue
        home, _, leaf = old.rpartition(".")
        place: str | None
        place, _, new_leaf = new.rpartition(".")
        if leaf != new_leaf and place.count(".") != home.count("."):
            # A tensor that became several (weight_g to parametrizations.weight.original0) does not move its module.
            place = home if place.startswith(home + ".") else None
        # (where a place is known already, so are those above it)
        while place not in (known := places.setdefault(home, set())):
            known.add(place)
            if home:
                home, place = home.rpartition(".")[0], place.rpartition(".")[0] if place else None
    return {home: next(iter(known)) if len(known) == 1 else None for home, known in places.items()}


def _without_meetings(modules: Sequence[str], places: dict[str, str]) -> dict[str, str | None]:
    """Let an entry whose new path is taken stay where it is, or go where even that is taken."""
    taken = set(modules) - places.keys()
    moved: dict[str, str | None] = {}
    for module, place in places.items():
        if place not in taken:
            taken.add(place)
            moved[module] = place
    for module in [module for module in places if module not in moved]:
        if module in taken:
            moved[module] = None
        taken.add(module)
    return moved
