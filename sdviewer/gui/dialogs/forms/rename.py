"""Rename by rules."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "rename",
    "Rename by r&ules…",
    "rename",
    (
        Entry("rules", "&Rules", "rules", "blocks.{i}.** -> layers.{i}.**"),
        Entry("mode", "&Mode", "choice", choices=(("first", "the first rule that matches"), ("chain", "every rule"))),
    ),
    "One rule a line: pattern -> result. * is one component, ** any, {i} one with a name; re: a regular expression.",
    "Patterns and what the keys they match become",
)
