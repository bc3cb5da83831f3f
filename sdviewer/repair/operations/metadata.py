"""metadata: set and remove entries of the text that a safetensors file carries beside its tensors."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.file_operation import FileChanges, FileOperation
from sdviewer.repair.operations.whole_file import WholeFile
from sdviewer.repair.plan import PlanWarning
from sdviewer.repair.wording import listed, quoted


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata(FileOperation):
    """Entries of `__metadata__`: those of `values` get these texts, those of `remove` go; no key changes its name."""

    op: ClassVar[str] = "metadata"

    values: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What a person reads in the list of steps."""
        said = [f"set {listed([name for name, _ in self.values])}"] if self.values else []
        said += [f"remove {listed(self.remove)}"] if self.remove else []
        words = " and ".join(said)
        return f"{words[:1].upper()}{words[1:]} in the metadata"

    def check(self) -> None:
        """It does something, nothing twice, and to no keys."""
        WholeFile.check(self)
        if not self.values and not self.remove:
            remedy = 'Write set = { name = "text" } or remove = ["name"].'
            raise UsageError("metadata needs `set` or `remove`", remedy=remedy, code="bad_recipe")
        names = [*(name for name, _ in self.values), *self.remove]
        if len(set(names)) < len(names):
            twice = Counter(names).most_common(1)[0][0]
            raise UsageError(f"metadata names {quoted(twice)} twice", code="bad_recipe")

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`set`, a table of texts or a list of pairs, and `remove`, a list of names."""
        return {"values": reader.texts_by_name("set"), "remove": reader.texts("remove")}

    def own_fields(self) -> dict[str, Any]:
        """As they are read; pairs where a name could not stand as a TOML key."""
        fields: dict[str, Any] = {}
        if self.values:
            plain = all(name.isprintable() and not set(name) & set("\"'\\") for name, _ in self.values)
            fields["set"] = dict(self.values) if plain else [list(pair) for pair in self.values]
        if self.remove:
            fields["remove"] = list(self.remove)
        return fields

    def change_file(self, changes: FileChanges) -> int:
        """Removing what is not there is a warning."""
        container = changes.checkpoint.container
        if container != "safetensors":
            raise RepairError(
                f"{container} files carry no text metadata that could be edited",
                remedy="Only safetensors files have `__metadata__`; leave the step out.",
                code="no_metadata",
            )
        own = changes.checkpoint.metadata.get("safetensors", {})
        now = {**own, **changes.metadata}
        edited: dict[str, str | None] = {name: new for name, new in self.values if now.get(name) != new}
        edited |= dict.fromkeys(name for name in self.remove if now.get(name) is not None)
        for name, new in edited.items():
            changes.metadata[name] = new
            if own.get(name) == new:
                del changes.metadata[name]
        missing = [name for name in self.remove if name not in edited]
        if missing:
            message = f"{self.label}: there is no entry {listed(missing)}"
            changes.warnings.append(PlanWarning("dead_rule", (), message))
        return len(edited)
