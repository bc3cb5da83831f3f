"""strip: take a prefix off, or path components out of, the keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.errors import NoMatch, UsageError
from sdviewer.repair import modules as module_paths
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.operation import KeyChanges, Operation
from sdviewer.repair.wording import listed, quoted

ALL, ANY = "all", "any"


@dataclass(frozen=True, slots=True)
class Strip(Operation):
    """`prefix` goes from the start of every key, once; `components` go wherever they stand above a tensor's own name.

    `when` says whether every key must have it ("all", the default for a prefix) or not ("any", that for components).
    """

    op: ClassVar[str] = "strip"

    prefix: str = ""
    components: tuple[str, ...] = ()
    when: str = ""

    @property
    def label(self) -> str:
        """`Strip prefix "module."`."""
        if self.prefix:
            return f"Strip prefix {quoted(self.prefix)}"
        return f"Strip {'component' if len(self.components) == 1 else 'components'} {listed(self.components)}"

    def check(self) -> None:
        """Either a prefix or components, none of them empty."""
        if bool(self.prefix) == bool(self.components):
            raise UsageError("strip needs either a `prefix` or `components`, and not an empty one")
        for component in self.components:
            if not component or "." in component:
                raise UsageError(f"{quoted(component)} is no path component", remedy="It has no dot and is not empty.")
        if self.when not in ("", ALL, ANY):
            raise UsageError(f"`when` is {quoted(self.when)}", remedy='It can be "all" or "any".')

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`prefix` or `components`, `when`."""
        return {
            "prefix": reader.text("prefix", ""),
            "components": reader.texts("components"),
            "when": reader.choice("when", (ALL, ANY), ""),
        }

    def own_fields(self) -> dict[str, Any]:
        """Without `when` where it is the default."""
        own: dict[str, Any] = {"prefix": self.prefix} if self.prefix else {"components": list(self.components)}
        return own | ({"when": self.when} if self.when else {})

    def change(self, keys: Sequence[str]) -> KeyChanges:
        """Refused where a key lacks it and every key must have it."""
        new_keys = self._without_prefix(keys) if self.prefix else self._without_components(keys)
        lacking = [old for old, new in zip(keys, new_keys, strict=True) if old == new]
        matched = len(keys) - len(lacking)
        what = quoted(self.prefix) if self.prefix else listed(self.components)
        refusal = None
        if lacking and (self.when or (ALL if self.prefix else ANY)) == ALL:
            refusal = NoMatch(
                f"{len(lacking):,} of {len(keys):,} keys lack {what}: {listed(lacking[:3])}", remedy=_remedy(lacking)
            )
        return KeyChanges(new_keys, matched, () if matched else (what,), refusal)

    def move_modules(
        self, modules: Sequence[str], keys: Sequence[str], new_keys: Sequence[str | None]
    ) -> dict[str, str | None]:
        """As torch's own helper does, unless only some keys are meant."""
        if self.keys:
            return module_paths.follow_keys(modules, keys, new_keys)
        if self.prefix:
            return module_paths.strip_prefix(modules, self.prefix, new_keys)
        return module_paths.strip_components(modules, self.components)

    def _without_prefix(self, keys: Sequence[str]) -> list[str]:
        return [key.removeprefix(self.prefix) for key in keys]

    def _without_components(self, keys: Sequence[str]) -> list[str]:
        components = self.components
        gone = set(components)
        new_keys = []
        for key in keys:
            if any(component in key for component in components):
                *above, last = key.split(".")
                new_keys.append(".".join([*[part for part in above if part not in gone], last]))
            else:
                new_keys.append(key)
        return new_keys


def _remedy(lacking: Sequence[str]) -> str:
    if "n_averaged" in lacking and len(lacking) == 1:
        return 'An averaged model (AveragedModel) has this counter beside its keys: drop "n_averaged" first.'
    return 'Write when = "any" to strip it where it is.'
