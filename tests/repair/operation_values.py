"""Values of every operation, for the tests that each of them must pass: a new operation is one line here."""

from __future__ import annotations

from hypothesis import strategies as st

from sdviewer.repair.operations import (
    Cast,
    Clone,
    Drop,
    DropObjects,
    Expect,
    Keep,
    LeaveOut,
    Metadata,
    Prefix,
    Rename,
    RenumberOptimizer,
    Replace,
    ReplacePrefix,
    SetValue,
    Strip,
    Tie,
    Unwrap,
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
}
