"""Import the user's script by its real path, once in a process.

The script's folder is first on ``sys.path``, so that siblings, star imports and data files
beside it work as they did when it was written.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Sequence

from mms_handler.errors import ScriptError

#: The hosting functions of the contract.
HOOKS = (
    "pre_model_fn",
    "model_fn",
    "model_warmup_fn",
    "transform_fn",
    "process_request_fn",
    "input_fn",
    "predict_fn",
    "output_fn",
)


def add_to_path(folders: Sequence[Path]) -> None:
    """Look for modules in ``folders`` first, from here on."""
    sys.path[:0] = map(str, folders)
    importlib.invalidate_caches()


def import_script(path: Path) -> ModuleType:
    """Import the script at ``path``; its folder is first on ``sys.path`` from here on.

    A script with a library's name (``gluon.py``, ``pandas.py``) leaves that name to the library:
    the library is imported first and the script gets another name in ``sys.modules``.
    """
    path = path.resolve()
    name = f"{path.stem}_script" if _is_library(path) else path.stem
    add_to_path([path.parent])
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ScriptError(f"{path.name} is not a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as the import system does: pickles and dataclasses look there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_library(path: Path) -> bool:
    """Whether the name of ``path`` is already a module's outside its model_dir: imports that."""
    if path.stem not in sys.modules:
        spec = importlib.util.find_spec(path.stem) if path.stem.isidentifier() else None
        model_dir = path.parent.parent if path.parent.name == "code" else path.parent
        if spec is None or model_dir in Path(spec.origin or model_dir / "x").resolve().parents:
            return False
        importlib.import_module(path.stem)
    return True


def hooks_of(module: ModuleType | None) -> dict[str, Callable[..., Any]]:
    """The hooks ``module`` has, by definition, assignment, import or star import.

    Raises:
        ScriptError: a hook's name stands for something that cannot be called.
    """
    found = {name: getattr(module, name) for name in HOOKS if hasattr(module, name)}
    for name, hook in found.items():
        if not callable(hook):
            raise ScriptError(f"{name} is a {type(hook).__name__}, not a function")
    return found
