"""Leave out what stands around the state dict."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "leave_out",
    "&Leave out entries…",
    "trash",
    (Entry("paths", "&Paths", "lines", "optimizer\nlr_scheduler"),),
    "One dotted path or pattern a line. What stands there goes, with all below it.",
    "The optimizer, the scheduler: whatever stands around the state dict",
    any_key=False,
    group="file",
)
