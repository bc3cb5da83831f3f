"""Put tensors one behind the other."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "fuse",
    "&Fuse…",
    "link",
    (
        Entry("from", "&From", "templates", "{x}.q.weight\n{x}.k.weight\n{x}.v.weight"),
        Entry("into", "&Into", placeholder="{x}.qkv.weight"),
        Entry("dim", "A&long dimension", "number", "0"),
        Entry("groups", "In &groups", "number", "1: each part in one piece; as many as heads where they alternate"),
    ),
    'One key for each part, in their order; {x} is what a pattern finds. "" is a part of zeros.',
    "q.weight, k.weight, v.weight → qkv.weight",
    group="shapes",
    effect="joined",
)
