"""Modules that are imported when they are first used."""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType
from typing import Any


class Postponed(ModuleType):
    """A placeholder for a module until one of its attributes is used.

    importlib's LazyLoader would load the module at an ``import`` statement.
    """

    _lock = threading.Lock()

    def load(self) -> ModuleType:
        """The module, which takes this one's place."""
        with self._lock:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
        return importlib.import_module(self.__name__)

    def __getattr__(self, attribute: str) -> Any:
        try:
            module = self.load()
        except ImportError as exc:  # code that looks through all modules expects AttributeError
            raise AttributeError(f"{self.__name__} cannot be imported: {exc}") from exc
        return getattr(module, attribute)
