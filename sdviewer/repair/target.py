"""What a checkpoint has to fit: the keys of a model, from whoever knows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sdviewer.core.key_table import KeyTable

Kind = Literal["checkpoint", "config", "keys", "message", "class"]


@dataclass(frozen=True, slots=True)
class Target:
    """The keys that a model asks for.

    `name` is what people call it: a file, a class; "" for a text that was pasted. `model` is the class, "" where it is
    not known. `approximate`: some keys were guessed (a folded report); `incomplete`: the text was cut, so there are
    more. `unreported` are keys of the table that loaders do not call missing where they are (counters of a BatchNorm,
    which torch fills in silently).
    `notes` are sentences for people about what is not known. `nested`: the model is given a state dict from inside of
    its file, and not what the whole file is. `head_dim` is how many numbers an attention head has, 0 where nobody says.
    """

    kind: Kind
    name: str
    table: KeyTable
    model: str = ""
    approximate: bool = False
    incomplete: bool = False
    unreported: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    nested: bool = False
    head_dim: int = 0

    @property
    def title(self) -> str:
        """What it is called within a sentence (untrusted text)."""
        if self.kind == "message":
            where = self.name or "the load error"
            return f"{self.model} ({where})" if self.model else f"the model of {where}"
        if self.kind == "config" and self.model:
            return f"{self.model} ({self.name})" if self.name else self.model
        pasted = {"keys": "the key list", "config": "the config"}
        return self.name or pasted.get(self.kind, self.kind)
