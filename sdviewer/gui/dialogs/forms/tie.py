"""Tie keys to one tensor."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "tie",
    "T&ie…",
    "link",
    (
        Entry("from", "&From", placeholder="wte.weight"),
        Entry("to", "T&o", "lines", "lm_head.weight"),
    ),
    "Each key gets this tensor, in its place where it is there, else behind it.",
    "Several keys for one tensor",
    any_key=False,
    group="values",
    effect="tied",
)
