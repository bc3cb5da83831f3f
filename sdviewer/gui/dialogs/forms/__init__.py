"""The forms of the operations: a new one is one new file here and one word in `FORMS`."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms import (
    add,
    broadcast,
    cast,
    channels,
    clean,
    clone,
    drop,
    drop_objects,
    edit,
    extract,
    flatten,
    fuse,
    keep,
    leave_out,
    merge_lora,
    metadata,
    permute,
    permute_rope,
    prefix,
    prune,
    rename,
    renumber_optimizer,
    reorder,
    replace,
    replace_prefix,
    reshape,
    resize,
    rows,
    scale,
    set_value,
    spectral_norm,
    split,
    squeeze,
    stack,
    strip,
    take,
    tie,
    transpose,
    unsqueeze,
    unstack,
    untie,
    unwrap,
    weight_norm,
    wrap,
)
from sdviewer.gui.dialogs.forms.form import Entry, Form

__all__ = ["FORMS", "Entry", "Form", "form_of"]

FORMS: tuple[Form, ...] = (
    *(strip.FORM, prefix.FORM, replace_prefix.FORM, rename.FORM, replace.FORM, drop.FORM, keep.FORM),
    *(split.FORM, fuse.FORM, stack.FORM, unstack.FORM),
    *(transpose.FORM, permute.FORM, reshape.FORM, flatten.FORM, squeeze.FORM, unsqueeze.FORM, rows.FORM),
    *(resize.FORM, channels.FORM, reorder.FORM, permute_rope.FORM),
    *(cast.FORM, clone.FORM, tie.FORM, untie.FORM, edit.FORM, add.FORM, broadcast.FORM, scale.FORM, clean.FORM),
    take.FORM,
    *(prune.FORM, weight_norm.FORM, spectral_norm.FORM, merge_lora.FORM),
    *(unwrap.FORM, extract.FORM, wrap.FORM, leave_out.FORM, set_value.FORM, metadata.FORM),
    *(drop_objects.FORM, renumber_optimizer.FORM),
)


def form_of(op: str) -> Form | None:
    """The form of an operation, None where it has none: its step is edited as text then."""
    return next((form for form in FORMS if form.op == op), None)
