"""The state dict of a whole pickled module."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Form

FORM = Form(
    "extract",
    "&Extract the state dict…",
    "export",
    hint="Of a file that is a whole pickled module: what module.state_dict() would give becomes the file.",
    tip="The state dict of a whole pickled module, without the module",
    any_key=False,
    group="file",
)
