"""Exchange one prefix for another."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "replace_prefix",
    "R&eplace prefix…",
    "swap",
    (
        Entry("from", "&From", placeholder="encoder."),
        Entry("to", "&To", placeholder="backbone.", needed=True),
    ),
    tip="encoder.weight → backbone.weight",
    suggests="from",
)
