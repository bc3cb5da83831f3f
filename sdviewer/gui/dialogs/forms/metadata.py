"""Texts of a safetensors file."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "metadata",
    "&Metadata…",
    "text",
    (
        Entry("set", "&Set", "pairs", "format = pt\nauthor = me"),
        Entry("remove", "&Remove", "lines", "author"),
    ),
    "Of safetensors files: one text a line as name = text, one name a line. The Metadata view edits them in place.",
    "Texts that a safetensors file carries beside its tensors",
    any_key=False,
    group="file",
)
