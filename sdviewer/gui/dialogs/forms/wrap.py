"""Wrap the root in a dict."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "wrap",
    "W&rap…",
    "dict",
    (Entry("key", "&Key", placeholder="state_dict"),),
    tip="The file becomes a dict with one entry",
    any_key=False,
    group="file",
)
