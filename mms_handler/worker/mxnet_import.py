"""Import mxnet in two thirds of the time and memory; whoever imports more then misses nothing."""

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
def swiftly() -> Iterator[None]:
    """For the first import of mxnet: what it never uses is left out, or for later."""
    with _without_collecting(), _without("sklearn"), _pythons_distutils():
        _postpone("scipy.stats")
        yield


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Imports make few cycles and very many objects, which stay: never look through them.

    That is a sixth of mxnet's import, and later 60 to 80 ms of some request, now and then.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if before:
            gc.enable()


@contextmanager
def _without(package: str) -> Iterator[None]:
    """As if ``package`` were not installed, unless somebody has imported it.

    mxnet takes the base class of its deprecated FeedForward from scikit-learn where that is
    installed: a third of a second.
    """
    absent = sys.modules.setdefault(package, None) is None  # type: ignore[arg-type]
    try:
        yield
    finally:
        if absent:
            del sys.modules[package]


@contextmanager
def _pythons_distutils() -> Iterator[None]:
    """The distutils that mxnet compares versions with is Python's own, not setuptools'.

    Setuptools takes its place where it is installed, with a tenth of a second and 10 MB.  From
    here on it does again.
    """
    before = {name for name in sys.modules if _is_distutils(name)}
    hidden = [one for one in sys.meta_path if type(one).__module__ == "_distutils_hack"]
    try:
        sys.meta_path = [one for one in sys.meta_path if one not in hidden]
        with suppress(ImportError), warnings.catch_warnings():  # Debian may not have it
            warnings.simplefilter("ignore", DeprecationWarning)
            importlib.import_module("distutils.version")
    finally:
        sys.meta_path = [*hidden, *sys.meta_path]
    try:
        yield
    finally:
        for name in {name for name in sys.modules if _is_distutils(name)} - before:
            del sys.modules[name]


def _is_distutils(name: str) -> bool:
    return name.partition(".")[0] == "distutils"


def _postpone(name: str) -> None:
    """Import a module when something of it is first used.

    mxnet imports scipy.stats for tests of its random numbers: a seventh of a second and 20 MB.
    """
    if name in sys.modules:
        return
    try:
        spec = importlib.util.find_spec(name)
    except ImportError:  # the package that it is in is missing, or broken
        return
    if spec:
        later = _Later(name)
        later.__spec__, later.__file__ = spec, spec.origin
        package, _, part = name.rpartition(".")
        sys.modules[name] = later
        setattr(sys.modules[package], part, later)


class _Later(ModuleType):
    """In the place of a module that nothing is asked of yet.

    importlib's LazyLoader would load it as soon as somebody writes ``import``.
    """

    _lock = threading.Lock()

    def __getattr__(self, attribute: str) -> Any:
        with self._lock:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
        try:
            module = importlib.import_module(self.__name__)
        except ImportError as exc:  # who looks through all modules expects nothing else
            raise AttributeError(f"{self.__name__} cannot be imported: {exc}") from exc
        return getattr(module, attribute)
