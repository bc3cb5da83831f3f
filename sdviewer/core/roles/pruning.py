"""Weights that torch keeps in another form: pruned, weight-normed, spectral-normed, parametrized.

Names: torch.nn.utils.prune `weight_orig` and `weight_mask`; torch.nn.utils.weight_norm `weight_g` and `weight_v`;
spectral_norm `weight_orig`, `weight_u`, `weight_v`; torch.nn.utils.parametrizations below `parametrizations.weight`.
"""

from __future__ import annotations

from sdviewer.core.roles.role import Place, TensorRole


def guess(place: Place) -> TensorRole | None:
    """The halves of such a pair; one alone says nothing."""
    return _pruned(place) or _weight_norm(place) or _spectral(place) or _parametrized(place)


def _pruned(place: Place) -> TensorRole | None:
    name, dash, ending = place.name.rpartition("_")
    if not dash or ending not in ("orig", "mask"):
        return None
    other = f"{name}_{'mask' if ending == 'orig' else 'orig'}"
    if place.beside(other) != place.shape:
        return None
    if ending == "mask":
        return TensorRole(f"pruning mask of {name}", "mask", related=place.related((f"{name} before", other)))
    return TensorRole(f"{name} before pruning", related=place.related(("mask", other)))


def _weight_norm(place: Place) -> TensorRole | None:
    name, dash, ending = place.name.rpartition("_")
    if not dash or ending not in ("g", "v"):
        return None
    lengths, directions = place.beside(f"{name}_g"), place.beside(f"{name}_v")
    if lengths is None or directions is None or not _is_length(lengths, directions):
        return None
    if ending == "g":
        return TensorRole(f"weight norm: lengths of {name}", related=place.related(("directions", f"{name}_v")))
    return TensorRole(f"weight norm: directions of {name}", related=place.related(("lengths", f"{name}_g")))


def _is_length(lengths: tuple[int, ...], directions: tuple[int, ...]) -> bool:
    """One length along one axis, or one for all."""
    if len(lengths) != len(directions):
        return not lengths
    return sum(size != 1 for size in lengths) <= 1 and all(
        size in (1, of) for size, of in zip(lengths, directions, strict=True)
    )


def _spectral(place: Place) -> TensorRole | None:
    name, dash, ending = place.name.rpartition("_")
    if not dash or ending not in ("orig", "u", "v"):
        return None
    weight, left = place.beside(f"{name}_orig"), place.beside(f"{name}_u")
    if weight is None or left is None or len(left) != 1 or left[0] not in weight:
        return None
    if ending == "orig":
        return TensorRole(f"{name} before spectral norm", related=place.related(("singular vector", f"{name}_u")))
    side = "left" if ending == "u" else "right"
    related = place.related((f"{name} before", f"{name}_orig"))
    return TensorRole(f"spectral norm: {side} singular vector of {name}", "buffer", related=related)


def _parametrized(place: Place) -> TensorRole | None:
    above, word, rest = place.key.rpartition("parametrizations.")
    if not word or (above and not above.endswith(".")):
        return None
    name, _, ending = rest.partition(".")
    if ending in ("original0", "original1"):
        lengths, directions = place.beside("original0"), place.beside("original1")
        if lengths is None or directions is None or not _is_length(lengths, directions):
            return None
        if ending == "original0":
            return TensorRole(f"weight norm: lengths of {name}", related=place.related(("directions", "original1")))
        return TensorRole(f"weight norm: directions of {name}", related=place.related(("lengths", "original0")))
    if ending == "original":
        vector = place.related(("singular vector", "0._u"))
        return TensorRole(f"{name} before {'spectral norm' if vector else 'its parametrization'}", related=vector)
    if ending in ("0._u", "0._v"):
        side = "left" if ending == "0._u" else "right"
        base = place.related_at((f"{name} before", f"{above}parametrizations.{name}.original"))
        return TensorRole(f"spectral norm: {side} singular vector of {name}", "buffer", related=base)
    return None
