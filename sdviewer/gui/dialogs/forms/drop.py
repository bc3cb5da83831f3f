"""Drop by patterns."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "drop",
    "Drop by &pattern…",
    "trash",
    (Entry("keys", "&Keys", "lines", "optimizer.**\nre:momentum$"),),
    "One pattern a line. What one of them matches is left out.",
    "Leave out all keys that a pattern matches",
    any_key=False,
)
