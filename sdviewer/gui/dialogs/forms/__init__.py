"""The forms of the operations: a new one is one new file here and one word in `FORMS`."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms import (
    cast,
    clone,
    drop,
    drop_objects,
    keep,
    leave_out,
    prefix,
    rename,
    renumber_optimizer,
    replace,
    replace_prefix,
    set_value,
    strip,
    tie,
    unwrap,
    wrap,
)
from sdviewer.gui.dialogs.forms.form import Entry, Form

__all__ = ["FORMS", "Entry", "Form", "form_of"]

FORMS: tuple[Form, ...] = (
    *(strip.FORM, prefix.FORM, replace_prefix.FORM, rename.FORM, replace.FORM),
    *(drop.FORM, keep.FORM, cast.FORM, clone.FORM, tie.FORM),
    *(unwrap.FORM, wrap.FORM, leave_out.FORM, set_value.FORM, drop_objects.FORM, renumber_optimizer.FORM),
)


def form_of(op: str) -> Form | None:
    """The form of an operation, None where it has none: its step is edited as text then."""
    return next((form for form in FORMS if form.op == op), None)
