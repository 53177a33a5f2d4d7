"""Import mxnet without sklearn, scipy.stats and setuptools (0.9 s instead of 1.4).

All three still import normally afterwards.
"""

from __future__ import annotations

import gc
import importlib.util
import sys
import threading
import warnings
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any, Iterator


@contextmanager
def fast_import() -> Iterator[None]:
    """Wrap the first import of mxnet: leave out or postpone packages that serving never uses."""
    with _without_gc(), _without("sklearn"), _standard_distutils():
        _postpone("scipy.stats")
        yield


@contextmanager
def _without_gc() -> Iterator[None]:
    """Keep the garbage collector away from the imported objects, now and later.

    Imports make few cycles and very many lasting objects.  Collecting takes a sixth of mxnet's
    import time, and would later add 60 to 80 ms to a request now and then.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Hide ``package``, as if it were not installed, unless it is imported already.

    Where scikit-learn is installed, mxnet takes the base class of its deprecated FeedForward from
    it, which costs a third of a second.
    """
    absent = sys.modules.setdefault(package, None) is None  # type: ignore[arg-type]
    try:
        yield
    finally:
        if absent:
            del sys.modules[package]


@contextmanager
def _standard_distutils() -> Iterator[None]:
    """Let mxnet compare versions with Python's own distutils, not with setuptools' one.

    An installed setuptools replaces distutils, which costs a tenth of a second and 10 MB.
    Afterwards it does so again.
    """
    loaded = {name for name in sys.modules if _is_distutils(name)}
    hidden = [finder for finder in sys.meta_path if type(finder).__module__ == "_distutils_hack"]
    try:
        sys.meta_path = [finder for finder in sys.meta_path if finder not in hidden]
        with suppress(ImportError), warnings.catch_warnings():  # Debian may not have it
            warnings.simplefilter("ignore", DeprecationWarning)
            importlib.import_module("distutils.version")
    finally:
        sys.meta_path = [*hidden, *sys.meta_path]
    try:
        yield
    finally:
        for name in {name for name in sys.modules if _is_distutils(name)} - loaded:
            del sys.modules[name]


def _is_distutils(name: str) -> bool:
    return name.partition(".")[0] == "distutils"


def _postpone(name: str) -> None:
    """Import a module only when one of its attributes is first used.

    mxnet imports scipy.stats to test its random numbers, which costs a seventh of a second and
    20 MB.
    """
    if name in sys.modules:
        return
    try:
        spec = importlib.util.find_spec(name)
    except ImportError:  # its package is missing or broken
        return
    if spec:
        module = _Postponed(name)
        module.__spec__, module.__file__ = spec, spec.origin
        package, _, part = name.rpartition(".")
        sys.modules[name] = module
        setattr(sys.modules[package], part, module)


class _Postponed(ModuleType):
    """A placeholder for a module until one of its attributes is used.

    importlib's LazyLoader would load the module at an ``import`` statement.
    """

    _lock = threading.Lock()

    def __getattr__(self, attribute: str) -> Any:
        with self._lock:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
        try:
            module = importlib.import_module(self.__name__)
        except ImportError as exc:  # code that looks through all modules expects AttributeError
            raise AttributeError(f"{self.__name__} cannot be imported: {exc}") from exc
        return getattr(module, attribute)
