"""Give tensors a storage of their own."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Form

FORM = Form(
    "clone",
    "Give each a storage of its o&wn…",
    "copy",
    hint="Ties are undone, and a view of a large storage takes no more room than its own numbers.",
    tip="A contiguous storage that is shared with no other tensor",
    group="values",
    selected="keys",
    effect="copied",
)
