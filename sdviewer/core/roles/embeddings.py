"""Token embeddings and the layers at the end that give classes or tokens."""

from __future__ import annotations

from sdviewer.core import text
from sdviewer.core.roles.role import Place, TensorRole

_TOKENS: tuple[str, ...] = (
    "embed_tokens",
    "wte",
    "word_embeddings",
    "tok_embeddings",
    "token_embedding",
    "token_embd",
    "embed_in",
)
_TOKENS += ("word_embedding", "token_emb", "tok_emb", "shared", "token_embeddings")
_TYPES = ("token_type_embeddings", "segment_embeddings")
_PLAIN = ("embedding", "embeddings", "embed", "emb")
_HEADS = ("lm_head", "embed_out")
_CLASSIFIERS = ("classifier", "head", "fc", "cls", "head.fc", "classifier.out_proj", "last_linear")
_WRAPPERS = ("module", "model", "_orig_mod", "net", "network", "backbone")


def guess(place: Place) -> TensorRole | None:
    """An embedding, or the last layer."""
    if place.name not in ("weight", "bias"):
        return None
    return _embedding(place) or _head(place)


def _embedding(place: Place) -> TensorRole | None:
    if place.name != "weight" or len(place.shape) != 2 or place.beside("bias") is not None:
        return None
    rows, features = place.shape
    if place.layer in _TOKENS and (place.layer != "shared" or place.parent in ("", *_WRAPPERS)):
        return TensorRole(f"token embedding, {text.count(rows)} tokens × {features:,}")
    if place.layer in _TYPES:
        return TensorRole(f"token type embedding, {text.plural(rows, 'type')} × {features:,}")
    if place.layer in _PLAIN:
        return TensorRole(f"embedding, {text.plural(rows, 'entry', 'entries')} × {features:,}")
    return None


def _head(place: Place) -> TensorRole | None:
    weight = place.beside("weight")
    if weight is None or len(weight) != 2 or (place.name == "bias" and place.shape != weight[:1]):
        return None
    if (bias := place.beside("bias")) is not None and bias != weight[:1]:
        return None
    outputs, inputs = weight
    parts = place.module.split(".")
    while len(parts) > 1 and parts[0] in _WRAPPERS:
        parts.pop(0)
    module = ".".join(parts)
    other = place.related(("bias", "bias")) if place.name == "weight" else place.related(("weight", "weight"))
    of = "bias of the " if place.name == "bias" else ""
    if parts[-1] in _HEADS or (module == "output" and _has_tokens(place, outputs)):
        words = f"{of}language model head, {text.count(outputs)} tokens"
        return TensorRole(words if of else f"{words} from {inputs:,}", related=other)
    if module not in _CLASSIFIERS:
        return None
    kind = "classifier" if module.startswith("cl") else "head"
    words = f"{of}{kind}, {text.plural(outputs, 'output')}"
    return TensorRole(words if of else f"{words} from {text.plural(inputs, 'feature')}", related=other)


def _has_tokens(place: Place, rows: int) -> bool:
    return any(
        (shape := place.at(name, "weight")) is not None and shape[:1] == (rows,)
        for name in ("tok_embeddings", "token_embd")
    )
