"""Unwrap a state dict."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "unwrap",
    "&Unwrap state dict…",
    "export",
    (
        Entry("path", "&Path", placeholder="state_dict, or auto"),
        Entry("keep_rest", "Keep what stands &beside it", "flag"),
    ),
    tip="Save the state dict alone, without what it is wrapped in",
    any_key=False,
    group="file",
)
