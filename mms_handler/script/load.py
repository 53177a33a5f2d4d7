"""Import the user's script from its real path, once in a process.

The script's folder is first on ``sys.path``.  Imports of its siblings, star imports and data files
beside it then work as they did when the script was written.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Collection, Mapping, Sequence

from mms_handler.errors import ScriptError
from mms_handler.script import interruptible, spelling

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


@dataclasses.dataclass(frozen=True)
class Script:
    """An imported script: its hooks by name.  A model_dir without a script has ``Script()``.

    Attributes:
        path: the file; None if there is no script.
        hooks: the functions of HOOKS that the script has.
        batch_predict: the script's variable of this name: whether its predict_fn may get the
            rows of several requests at once.
        doubts: sentences about functions that nothing uses and whose names are nearly hooks'.
    """

    path: Path | None = None
    hooks: Mapping[str, Callable[..., Any]] = dataclasses.field(default_factory=dict)
    batch_predict: bool = False
    doubts: Sequence[str] = ()

    @classmethod
    def load(cls, path: Path | None) -> Script:
        """Import the script at ``path`` with ``import_script``; without a path, ``Script()``.

        A hook may be defined, assigned, imported or star-imported.

        Raises:
            ScriptError: a hook's name stands for something that is not callable.
            BaseException: whatever the script raises while it is imported.
        """
        if path is None:
            return cls()
        module = import_script(path)
        hooks = {name: getattr(module, name) for name in HOOKS if hasattr(module, name)}
        for name, hook in hooks.items():
            if not callable(hook):
                raise ScriptError(f"{name} is a {type(hook).__name__}, not a function")
        doubts = tuple(spelling.misspelt_hooks(module, _missing(hooks)))
        return cls(path, hooks, bool(getattr(module, "batch_predict", False)), doubts)

    def __contains__(self, hook: str) -> bool:
        return hook in self.hooks

    def get(self, hook: str, default: Callable[..., Any]) -> Callable[..., Any]:
        return self.hooks.get(hook, default)


def _missing(hooks: Collection[str]) -> list[str]:
    """The hooks that a script may still define: those that others do not replace."""
    replaced: tuple[str, ...] = ()
    if "transform_fn" in hooks:
        replaced = ("process_request_fn", "input_fn", "predict_fn", "output_fn")
    elif "process_request_fn" in hooks:
        replaced = ("input_fn", "predict_fn")
    return [name for name in HOOKS if name not in (*hooks, *replaced)]


def add_to_path(folders: Sequence[Path]) -> None:
    """Put ``folders`` first on ``sys.path``."""
    sys.path[:0] = map(str, folders)
    importlib.invalidate_caches()


def import_script(path: Path) -> ModuleType:
    """Import the script at ``path``, and put its folder first on ``sys.path``.

    A script may have the name of a library (``gluon.py``, ``pandas.py``).  The library is then
    imported first and keeps the name; the script is ``<name>_script`` in ``sys.modules``.

    Raises:
        ScriptError: ``path`` is not a .py file.
        BaseException: whatever the script raises while it is imported.
    """
    path = path.resolve()
    name = f"{path.stem}_script" if _is_library(path) else path.stem
    interruptible.import_from(path.parent)
    add_to_path([path.parent])
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ScriptError(f"{path.name} is not a .py file")
    if interruptible.NEEDED:
        spec.loader = interruptible.Loader(name, str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as the import system does; pickle and dataclasses look there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_library(path: Path) -> bool:
    """Whether a module outside the model_dir has the script's name.  Imports that module."""
    if path.stem not in sys.modules:
        spec = importlib.util.find_spec(path.stem) if path.stem.isidentifier() else None
        model_dir = path.parent.parent if path.parent.name == "code" else path.parent
        if spec is None or model_dir in Path(spec.origin or model_dir / "x").resolve().parents:
            return False
        importlib.import_module(path.stem)
    return True
