"""Tensors of another checkpoint."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "take",
    "Take &from another file…",
    "onlyB",
    (
        Entry("from", "&From", "file", "Another checkpoint"),
        Entry("state_dict", "&State dict", placeholder="auto: the only model's"),
        Entry("keys", "&Keys there", "lines", "head.**\nre:bias$"),
        Entry("to", "&Names here", "rules", "module.** -> **"),
        Entry("rows", "W&hat", "choice", choices=(("all", "whole tensors"), ("missing", "rows that are missing here"))),
    ),
    "Without keys all tensors are taken. One that is here is replaced, with shape and dtype; another one is added.",
    "Tensors of another checkpoint, with their bits",
    any_key=False,
    group="values",
    effect="taken",
)
"""`from` is a path; `keys` and the left sides of `to` are keys of the other file."""
