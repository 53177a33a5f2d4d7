"""Import mxnet in 0.4 s instead of 1.4.

Nothing changes for those who use mxnet afterwards: what is left out is imported or compiled when
it is first used.
"""

from __future__ import annotations

import gc
import importlib.util
import sys
import warnings
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import FunctionType, ModuleType
from typing import Any, Iterator, Sequence, cast

from mms_handler.postponed import Postponed


@contextmanager
def fast_import() -> Iterator[None]:
    """Wrap the first import of mxnet: postpone what few scripts use, keep gc and setuptools out."""
    with _without_gc(), _standard_distutils(), postponed():
        yield


@contextmanager
def postponed() -> Iterator[None]:
    """Wrap the first import of mxnet: postpone scipy.stats and the compiling of operators."""
    _postpone("scipy.stats")
    finder = _OperatorsFinder()
    sys.meta_path = [finder, *sys.meta_path]
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


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
def without(package: str) -> Iterator[None]:
    """Hide ``package``, as if it were not installed, unless it is imported already.

    Where scikit-learn is installed, mxnet takes the base class of its deprecated FeedForward from
    it, which costs a third of a second.  A served model has no use for that.
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
        module = Postponed(name)
        module.__spec__, module.__file__ = spec, spec.origin
        package, _, part = name.rpartition(".")
        sys.modules[name] = module
        setattr(sys.modules[package], part, module)


class _OperatorsFinder(MetaPathFinder):
    """Finds the two modules of mxnet that make its operators' functions, and changes how.

    mxnet generates the source of some 2,500 functions and compiles each, which takes half of its
    import's time; a model uses a dozen (mxnet/ndarray/register.py:266, mxnet/symbol/register.py).
    """

    MODULES = ("mxnet.ndarray.register", "mxnet.symbol.register")

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The usual spec, whose loader gives the module an ``exec`` that postpones compiling."""
        if name not in self.MODULES:
            return None
        spec = cast(ModuleSpec, PathFinder.find_spec(name, path, target))
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            def define(source: str, _: None, names: dict[str, Any]) -> None:
                function = _operator(source, module.__dict__)
                names[function.__name__] = function

            module.exec = define  # type: ignore[attr-defined]
            execute(module)

        loader.exec_module = exec_module
        return spec


def _operator(source: str, names: dict[str, Any]) -> FunctionType:
    """The function that ``source`` defines in a module's ``names``, compiled by its first call."""
    start = source.index("def ") + len("def ")
    name = source[start : source.index("(", start)]
    function = FunctionType(_first_call.__code__, names, name)

    def compiled() -> FunctionType:
        definitions: dict[str, Any] = {}
        exec(compile(source, "<string>", "exec", dont_inherit=True), names, definitions)
        operator = definitions[name]
        # Other threads may call it meanwhile.  They see the code of the first call with its
        # keyword, or the operator's code, which has no keyword-only parameters.
        function.__defaults__ = operator.__defaults__
        function.__code__ = operator.__code__
        function.__kwdefaults__ = None
        return function

    function.__kwdefaults__ = {"_compiled": compiled}
    return function


def _first_call(*args: Any, _compiled: Any, **kwargs: Any) -> Any:
    return _compiled()(*args, **kwargs)
