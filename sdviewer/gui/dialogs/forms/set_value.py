"""Change a plain value."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "set_value",
    "Set a &value…",
    "value",
    (
        Entry("path", "&Path", placeholder="epoch"),
        Entry("value", "&Value", "value", "4, 0.1, true, None or a text", needed=True),
    ),
    tip="A number, a text, True, False or None beside the tensors",
    any_key=False,
    group="file",
)
