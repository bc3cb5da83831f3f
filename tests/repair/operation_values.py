"""Values of every operation, for the tests that each of them must pass: a new operation is one line here."""

from __future__ import annotations

from hypothesis import strategies as st

from sdviewer.repair.operations import (
    Add,
    Broadcast,
    Cast,
    Channels,
    Clean,
    Clone,
    Drop,
    DropObjects,
    Edit,
    Expect,
    Extract,
    Flatten,
    Fuse,
    Keep,
    LeaveOut,
    MergeLora,
    Metadata,
    Permute,
    PermuteRope,
    Prefix,
    Prune,
    Rename,
    RenumberOptimizer,
    Reorder,
    Replace,
    ReplacePrefix,
    Reshape,
    Resize,
    Rows,
    Scale,
    SetValue,
    SpectralNorm,
    Split,
    Squeeze,
    Stack,
    Strip,
    Take,
    Tie,
    Transpose,
    Unsqueeze,
    Unstack,
    Untie,
    Unwrap,
    WeightNorm,
    Wrap,
)
from sdviewer.repair.patterns import literal_rule

TEXTS = st.text(st.characters(categories=("L", "N", "P", "Zs", "Cc", "Cs")), min_size=1, max_size=8)
NAMES = TEXTS.filter(lambda text: "." not in text)
EXPECTS = st.builds(Expect, *[st.none() | st.integers(0, 2**40)] * 3)
COMMON = {"enabled": st.booleans(), "why": st.just("") | TEXTS, "expect": st.none() | EXPECTS}
PATTERNS = st.lists(
    st.one_of(
        st.sampled_from(["**", "a.{i}.w", r"re:^\d+'\"$", "re.full:a|b"]),
        TEXTS.map(lambda key: literal_rule(key, "x")[0]),
    ),
    min_size=1,
    max_size=3,
).map(tuple)
RULES = st.lists(
    st.one_of(
        st.tuples(TEXTS, TEXTS).map(lambda pair: literal_rule(*pair)),
        st.just(("a.{i}", "b.{i+1}")),
        st.just(("re:a", "")),
    ),
    min_size=1,
    max_size=5,
).map(tuple)
DIMS = st.integers(-3, 3)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.one_of(FLOATS, st.integers(-(2**63), 2**64 - 1), st.booleans(), st.sampled_from(["nan", "-inf", "1+2j"]))
PLACES = st.lists(st.integers(-9, 9), max_size=5).map(tuple)
FORMS = st.sampled_from(["folded", "old", "new"])
KEYED = {**COMMON, "keys": st.just(()) | PATTERNS}

OPERATION_VALUES = {
    Unwrap: st.builds(Unwrap, path=TEXTS, keep_rest=st.booleans(), **COMMON),
    Strip: st.builds(Strip, prefix=TEXTS, when=st.sampled_from(["", "any", "all"]), **KEYED)
    | st.builds(Strip, components=st.lists(NAMES, min_size=1).map(tuple), **KEYED),
    Prefix: st.builds(Prefix, add=TEXTS, **KEYED),
    ReplacePrefix: st.builds(ReplacePrefix, old=TEXTS, new=st.just("") | TEXTS, **KEYED),
    Rename: st.builds(Rename, rules=RULES, mode=st.sampled_from(["first", "chain"]), **KEYED),
    Replace: st.builds(Replace, find=TEXTS, new=st.just("") | TEXTS, **KEYED)
    | st.builds(Replace, find=st.just(r"(\d)"), new=st.just(r"\1'"), syntax=st.just("regex"), **KEYED),
    Cast: st.builds(
        Cast, dtype=st.sampled_from(["float16", "int64"]), of=st.sampled_from(["floating", "all"]), **KEYED
    ),
    Clone: st.builds(Clone, **KEYED),
    Tie: st.builds(Tie, source=st.just("a"), to=st.just(("b", "c.d")), **COMMON),
    SetValue: st.builds(SetValue, path=TEXTS, value=st.sampled_from([None, True, 3, -1.5, "x"]), **COMMON),
    LeaveOut: st.builds(LeaveOut, paths=PATTERNS, **COMMON),
    Wrap: st.builds(Wrap, key=TEXTS, **COMMON),
    RenumberOptimizer: st.builds(RenumberOptimizer, **COMMON),
    Split: st.builds(
        Split,
        source=st.just("a.{i}.qkv"),
        into=st.just(("a.{i}.q", "", "a.{i}.v")),
        dim=DIMS,
        sizes=st.sampled_from([(), (1, 0, 7)]),
        groups=st.integers(1, 9),
        **KEYED,
    ),
    Fuse: st.builds(
        Fuse,
        sources=st.just(("a.{i}.q", "", "a.{i}.v")),
        into=st.just("a.{i}.qkv"),
        dim=DIMS,
        groups=st.integers(1, 9),
        **KEYED,
    ),
    Stack: st.builds(
        Stack, source=st.just("a.{e}.{p}"), over=st.just("e"), into=st.sampled_from(["a.{p}", "b"]), dim=DIMS, **KEYED
    ),
    Unstack: st.builds(Unstack, source=st.just("a.{p}"), into=st.just("a.{e}.{p}"), dim=DIMS, **KEYED),
    Transpose: st.builds(Transpose, dims=st.none() | st.just((0, -1)), **KEYED),
    Permute: st.builds(
        Permute, order=st.integers(1, 5).flatmap(lambda n: st.permutations(range(n))).map(tuple), **KEYED
    ),
    Reorder: st.builds(
        Reorder,
        order=st.integers(2, 5).flatmap(lambda n: st.permutations(range(n))).map(tuple),
        dim=DIMS,
        groups=st.integers(1, 9),
        **KEYED,
    ),
    PermuteRope: st.builds(PermuteRope, heads=st.integers(1, 99), to=st.sampled_from(["halves", "pairs"]), **KEYED),
    Channels: st.builds(Channels, to=st.integers(1, 9), dim=DIMS, **KEYED),
    Resize: st.one_of(
        st.builds(
            Resize,
            to=st.just((3, 5)),
            dim=DIMS,
            prefix=st.integers(0, 3),
            grid=st.sampled_from([(), (2, 9)]),
            mode=st.sampled_from(["bicubic", "bilinear", "nearest"]),
            sharp=st.booleans(),
            **KEYED,
        ),
        st.builds(Resize, to=st.lists(st.integers(1, 9), min_size=1).map(tuple), of=st.just("image"), **KEYED),
    ),
    MergeLora: st.builds(
        MergeLora,
        scale=FLOATS,
        alpha=st.none() | st.floats(1e-9, 1e9),
        rank=st.none() | st.integers(1, 999),
        transposed=st.booleans(),
        **KEYED,
    ),
    Reshape: st.builds(Reshape, shape=st.lists(st.integers(0, 9), max_size=4).map(lambda s: (*s, -1)), **KEYED),
    Flatten: st.builds(Flatten, start=DIMS, end=DIMS, **KEYED),
    Squeeze: st.builds(Squeeze, dims=st.none() | st.lists(DIMS, min_size=1).map(tuple), **KEYED),
    Unsqueeze: st.builds(Unsqueeze, dim=DIMS, **KEYED),
    Rows: st.one_of(
        st.builds(Rows, dim=DIMS, between=st.sampled_from([(2,), (0, -1)]), **KEYED),
        st.builds(Rows, dim=DIMS, take=PLACES, **KEYED),
        st.builds(Rows, dim=DIMS, delete=PLACES, **KEYED),
        st.builds(Rows, dim=DIMS, reverse=st.just(True), **KEYED),
        st.builds(
            Rows,
            dim=DIMS,
            pad=st.integers(0, 9),
            fill=st.sampled_from(["zeros", "mean", "copy:-1"]) | SCALARS,
            at=st.none() | DIMS,
            **KEYED,
        ),
        st.builds(Rows, dim=DIMS, size=st.integers(0, 9), fill=st.sampled_from(["zeros", "mean"]) | SCALARS, **KEYED),
    ),
    Add: st.builds(
        Add,
        key=TEXTS,
        fill=st.sampled_from(["zeros", "ones", "arange"]) | SCALARS,
        shape=st.lists(st.integers(0, 9), max_size=3).map(tuple),
        dtype=st.sampled_from(["", "bfloat16"]),
        after=st.just("") | TEXTS,
        **COMMON,
    )
    | st.builds(
        Add,
        key=TEXTS,
        fill=st.just("normal"),
        like=TEXTS,
        mean=FLOATS,
        std=FLOATS.map(abs),
        seed=st.integers(0, 2**32 - 1),
        **COMMON,
    ),
    Broadcast: st.builds(Broadcast, source=TEXTS, to=st.just("blocks.{i}.w"), tied=st.booleans(), **COMMON),
    Untie: st.builds(Untie, **KEYED),
    Edit: st.builds(Edit, key=TEXTS, at=PLACES, value=SCALARS, rounded=st.booleans(), **COMMON)
    | st.builds(Edit, key=TEXTS, at=PLACES, values=st.lists(SCALARS).map(tuple), **COMMON),
    Clean: st.builds(Clean, nan=FLOATS, posinf=st.none() | FLOATS, neginf=st.none() | FLOATS, **KEYED),
    Scale: st.builds(Scale, factor=FLOATS.filter(lambda factor: factor != 1), **KEYED),
    Prune: st.builds(Prune, **KEYED),
    WeightNorm: st.builds(WeightNorm, to=FORMS, **KEYED),
    SpectralNorm: st.builds(SpectralNorm, to=FORMS, dim=st.none() | DIMS, **KEYED),
    Drop: st.builds(Drop, keys=PATTERNS, **COMMON),
    Keep: st.builds(Keep, keys=PATTERNS, **COMMON),
    DropObjects: st.builds(DropObjects, **COMMON),
    Metadata: st.builds(
        lambda texts, remove, **common: Metadata(
            values=tuple(texts.items()), remove=tuple(name for name in remove if name not in texts), **common
        ),
        st.dictionaries(TEXTS, st.just("") | TEXTS, min_size=1, max_size=3),
        st.lists(TEXTS, unique=True, max_size=2),
        **COMMON,
    ),
    Extract: st.builds(Extract, **COMMON),
    Take: st.builds(
        Take,
        path=TEXTS,
        state_dict=st.just("auto") | TEXTS,
        to=st.just(()) | RULES,
        rows=st.sampled_from(["all", "missing"]),
        **KEYED,
    ),
}
