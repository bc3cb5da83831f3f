"""Add a prefix."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "prefix",
    "&Add prefix…",
    "plus",
    (Entry("add", "&Prefix", placeholder="model."),),
    tip="weight → model.weight",
)
