"""Cut tensors into parts."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "split",
    "&Split…",
    "onlyA",
    (
        Entry("from", "&From", placeholder="{x}.qkv.weight"),
        Entry("into", "&Into", "templates", "{x}.q.weight\n{x}.k.weight\n{x}.v.weight"),
        Entry("dim", "A&long dimension", "number", "0"),
        Entry("sizes", "&Sizes", "numbers", "equal, or 1024, 512, 512"),
        Entry("groups", "In &groups", "number", "1: each part in one piece; as many as heads where they alternate"),
    ),
    'One key for each part, in their order; {x} is what a pattern finds. "" leaves its part out.',
    "qkv.weight → q.weight, k.weight, v.weight",
    group="shapes",
    selected="from",
    effect="cut",
)
