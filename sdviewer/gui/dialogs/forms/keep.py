"""Keep by patterns."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "keep",
    "&Keep only…",
    "pin",
    (Entry("keys", "&Keys", "lines", "encoder.**"),),
    "One pattern a line. What none of them matches is left out.",
    "Leave out all keys that no pattern matches",
    suggests="keys",
    any_key=False,
)
