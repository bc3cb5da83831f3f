"""What the window remembers: a table of settings, and the recent files. QSettings is used only here."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

from PySide6.QtCore import QByteArray, QObject, QSettings, Signal

from sdviewer import APP_ID

MOST_RECENTS: Final = 12
MOST_OF_SERIES: Final = 200
"""Files up to which a series that is no folder is remembered."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that is remembered; `choices` where it is one of a few."""

    key: str
    default: Any
    choices: tuple[str, ...] = ()


SETTINGS: Final = (
    Setting("appearance/theme", "system", ("system", "light", "dark")),
    Setting("plots/histogram_scale", "linear", ("linear", "log")),
    Setting("view/front", "overview", ("overview", "tensors")),
    Setting("overview/colour", "std", ("size", "std", "norm", "dtype")),
    Setting("overview/measure", "std", ("std", "norm", "mean", "largest")),
    Setting("view/plot", "overview"),
    Setting("view/recipe_open", True),
    Setting("tree/columns", ""),
    Setting("files/last_folder", ""),
    Setting("repair/imports", ""),
)


@dataclass(frozen=True, slots=True)
class Recent:
    """A file opened before, with what the start page tells about it; `time` in seconds since the epoch.

    A series is there by its folder, with the number of its files for that of tensors; `series` is what it is opened by.
    """

    path: str
    tensors: int
    parameters: int
    size: int
    time: float
    series: tuple[str, ...] = ()


class Store(Protocol):
    """What settings are kept in: a QSettings, or `Memory`."""

    def value(self, key: str, default: Any = None, /) -> Any: ...
    def setValue(self, key: str, value: Any, /) -> None: ...


class Memory:
    """A store that forgets: nothing is read from the disk or written to it.

    Never a QSettings on the null device: it saves by renaming a file over its path, the device included.
    """

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def value(self, key: str, default: Any = None, /) -> Any:
        """What is kept under a key."""
        return self._values.get(key, default)

    def setValue(self, key: str, value: Any, /) -> None:
        """Keep a value."""
        self._values[key] = value


class Settings(QObject):
    """The settings of this user."""

    changed = Signal(str)
    recents_changed = Signal()

    def __init__(self, store: Store | None = None) -> None:
        super().__init__()
        self._store: Store = (
            store
            if store is not None
            else QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, APP_ID.rpartition(".")[2], "sdviewer")
        )
        self._known = {setting.key: setting for setting in SETTINGS}

    def get(self, key: str) -> Any:
        """The value of a setting; its default where none is stored or what is stored is none of its choices."""
        setting = self._known[key]
        stored = self._store.value(key, setting.default)
        if isinstance(setting.default, bool):
            return stored in (True, "true")
        if setting.choices and stored not in setting.choices:
            return setting.default
        return stored

    def set(self, key: str, value: Any) -> None:
        """Remember a value."""
        if self.get(key) != value:
            assert key in self._known
            self._store.setValue(key, value)
            self.changed.emit(key)

    # Window state, apart from the settings

    def state(self, name: str) -> QByteArray:
        """Bytes a widget saved of itself, empty where it has not."""
        stored = self._store.value(f"state/{name}", QByteArray())
        return stored if isinstance(stored, QByteArray) else QByteArray()

    def set_state(self, name: str, value: QByteArray) -> None:
        """Remember bytes a widget saved of itself."""
        self._store.setValue(f"state/{name}", value)

    # Recent files

    def recents(self) -> list[Recent]:
        """Files opened before, the last first."""
        try:
            rows = json.loads(str(self._store.value("files/recent", "[]")))
            return [Recent(**{**row, "series": tuple(row.get("series", ()))}) for row in rows]
        except (ValueError, TypeError, AttributeError):
            return []

    def add_recent(self, path: str, tensors: int, parameters: int, size: int) -> None:
        """Put a file at the top of the list."""
        self._put_first(Recent(path, tensors, parameters, size, time.time()))

    def add_recent_series(self, folder: str, paths: Sequence[str], files: int, size: int) -> None:
        """Put a series at the top of the list: where it is, what it is opened by, how many files it has."""
        if len(paths) <= MOST_OF_SERIES:
            self._put_first(Recent(folder, files, 0, size, time.time(), tuple(paths)))

    def _put_first(self, new: Recent) -> None:
        kept = [recent for recent in self.recents() if (recent.path, recent.series) != (new.path, new.series)]
        self._store_recents([new, *kept])

    def remove_recent(self, path: str) -> None:
        """Take a file off the list."""
        self._store_recents([recent for recent in self.recents() if recent.path != path])

    def clear_recents(self) -> None:
        """Forget all files."""
        self._store_recents([])

    def _store_recents(self, recents: list[Recent]) -> None:
        rows = [asdict(recent) for recent in recents[:MOST_RECENTS]]
        self._store.setValue("files/recent", json.dumps(rows))
        self.recents_changed.emit()
