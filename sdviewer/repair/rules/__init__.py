"""From pairs of keys to the few readable steps that a person would write."""

from __future__ import annotations

from sdviewer.repair.rules.dialects import DIALECTS, Recognised, recognised
from sdviewer.repair.rules.learning import Lesson, Variant, learn
from sdviewer.repair.rules.suggesting import Proposal, propose, suggest

__all__ = ["DIALECTS", "Lesson", "Proposal", "Recognised", "Variant", "learn", "propose", "recognised", "suggest"]
