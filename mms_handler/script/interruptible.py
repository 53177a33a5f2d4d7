"""Import a script's files so that Python 3.10 can interrupt each of their loops.

CPython looks for signals between bytecodes.  Version 3.10 does not where a loop jumps back to the
start of a ``try``: a loop without a call would never see the signal of the time limit::

    while True:
        try:
            ready = not ready
        except Exception:
            pass

A ``pass`` before the ``try`` is a bytecode of its own, and 3.10 looks there.  It changes nothing
else: not a line number, and not what the loop does.  Other versions look at each jump.

Source: Python/ceval.c of 3.10, ``_PyEval_EvalFrameDefault``: no look before SETUP_FINALLY.
"""

from __future__ import annotations

import ast
import sys
from importlib import machinery
from pathlib import Path
from types import CodeType
from typing import Any

#: Whether this Python is one that needs it.
NEEDED = sys.version_info[:2] == (3, 10)

#: The folders of scripts whose files are imported this way.
_folders: set[Path] = set()


class Loader(machinery.SourceFileLoader):
    """Compile a file with a ``pass`` where 3.10 needs one; neither read nor write its .pyc."""

    def source_to_code(  # type: ignore[override]  # the static one of the base of all loaders
        self, data: Any, path: Any, *, _optimize: int = -1
    ) -> CodeType:
        tree = interruptible(ast.parse(data, path))
        code: CodeType = compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)
        return code

    def path_stats(self, path: Any) -> Any:
        raise OSError  # the import system then does without a .pyc


def interruptible(tree: ast.Module) -> ast.Module:
    """Put a ``pass`` first into each ``while`` whose body begins with a ``try``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.While) and isinstance(node.body[0], ast.Try):
            # It needs the line of the while: the compiler leaves out a pass on the try's own line.
            node.body.insert(0, ast.copy_location(ast.Pass(), node))
    return tree


def import_from(folder: Path) -> None:
    """Import all files below ``folder`` this way from now on, if this Python needs it.

    Installed packages in its ``lib`` are imported as they are.
    """
    if not NEEDED:
        return
    _folders.add(folder)
    if _hook not in sys.path_hooks:
        sys.path_hooks.insert(0, _hook)
    for path in [path for path in sys.path_importer_cache if _is_script(path)]:
        del sys.path_importer_cache[path]


_finder = machinery.FileFinder.path_hook(
    (machinery.ExtensionFileLoader, machinery.EXTENSION_SUFFIXES),
    (Loader, machinery.SOURCE_SUFFIXES),
    (machinery.SourcelessFileLoader, machinery.BYTECODE_SUFFIXES),
)


def _hook(path: str) -> Any:
    """Find modules in a folder of ``sys.path``, if it is a script's."""
    if not _is_script(path):
        raise ImportError
    return _finder(path)


def _is_script(path: str) -> bool:
    parents = {Path(path), *Path(path).parents}
    return any(folder / "lib" not in parents for folder in _folders & parents)
