"""Where shapes agree and meanings do not: what the neighbours of a tensor, or its codebase, say about its elements."""

from __future__ import annotations

from dataclasses import replace

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching.families import holes
from sdviewer.repair.matching.found import Found, Matching
from sdviewer.repair.matching.state import State

META_ATTENTION = {"wq": "q_proj", "wk": "k_proj"}
"""Components of Meta's Llama layout, whose rows lie in pairs for the rotary embedding -> those of transformers, where
they lie in halves (transformers' convert_llama_weights_to_hf)."""


def settle_squares(state: State) -> None:
    """Transpose square matrices of blocks in which all others are transposed: their shapes cannot say it."""
    blocks: dict[tuple[str, ...], list[tuple[int, bool, bool]]] = {}
    for n, found in enumerate(state.found):
        if len(found.sources) != 1 or len(found.targets) != 1 or found.by in ("content", "hand"):
            continue
        shape = state.source.shapes[found.sources[0]]
        if shape is None or len(shape) != 2 or state.target.shapes[found.targets[0]] is None:
            continue
        template = state.source.templates[found.sources[0]]
        block = template[: max(holes(template), default=-1) + 1]
        if not block:
            continue
        blocks.setdefault(block, []).append((n, shape[0] == shape[1], found.relation == "transpose"))
    for some in blocks.values():
        others = [transposed for _, square, transposed in some if not square]
        if not others or not all(others):
            continue
        told = "It is square, so its shape cannot say it: all other matrices of its block are transposed"
        for n, square, _ in some:
            if square:
                found = state.found[n]
                state.found[n] = replace(found, relation="transpose", evidence="likely", reasons=(*found.reasons, told))


def doubt_matrices(matching: Matching, source: KeyTable) -> Matching:
    """Prove no matrix by its key that lies as it did where others lie the other way round: it may be another one."""

    matrices = {n for n, one in enumerate(matching.found) if len(source.shapes[one.sources[0]] or ()) == 2}
    if not any(matching.found[n].relation == "transpose" for n in matrices):
        return matching
    found = list(matching.found)
    for n in matrices:
        if found[n].evidence == "proved" and found[n].relation == "rename" and found[n].by in ("key", "prefix"):
            found[n] = replace(found[n], evidence="likely")
    return replace(matching, found=tuple(found))


def settle_rotary(state: State) -> None:
    """Permute the rows of Meta's query and key, where the file's rotary table tells the size of a head."""
    tables = [
        state.source.shapes[at]
        for at, key in enumerate(state.source.table.keys)
        if key.split(".")[-2:] == ["rope", "freqs"]
    ]
    head = 2 * tables[0][0] if len(tables) == 1 and tables[0] and len(tables[0]) == 1 else 0
    if not head:
        return
    for n, found in enumerate(state.found):
        if found.relation == "rename" and found.by not in ("content", "hand") and _is_meta_attention(state, found):
            shape = state.source.shapes[found.sources[0]] or ()
            if len(shape) == 2 and shape[0] % head == 0:
                told = "Rows lie in pairs for the rotary embedding on one side, in halves on the other"
                state.found[n] = replace(
                    found,
                    relation="permute_rope",
                    fields={"n_heads": shape[0] // head},
                    evidence="likely",
                    reasons=(*found.reasons, told),
                )


def _is_meta_attention(state: State, found: Found) -> bool:
    parts = state.source.names[found.sources[0]].parts
    other = state.target.names[found.targets[0]].parts
    return len(parts) > 1 and len(other) > 1 and META_ATTENTION.get(parts[-2]) == other[-2]
