"""Find and replace, as the form of a step that is edited; adding one has a panel of its own."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "replace",
    "&Find and replace…",
    "replace",
    (
        Entry("find", "&Find"),
        Entry("with", "&Replace", needed=True),
        Entry(
            "syntax",
            "&Syntax",
            "choice",
            choices=(("literal", "text"), ("template", "template"), ("regex", "regular expression")),
        ),
    ),
    tip="A piece of the keys, with a preview of what changes",
)
