"""Legacy or script mode: whether a file's train() is called, or the file is run.

setting ─▶ hyperparameters ─▶ .py? ─▶ defines train? ─▶ main guard? ─▶ what it reads and requires

The syntax tree decides (``source``): importing a script-mode file would train.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, Mapping, NamedTuple

from mms_handler.errors import TrainingError
from mms_handler.training import source
from mms_handler.training.arguments import NAMES

#: Hyperparameters that the SDK sends only for MXNet 1.3 and newer, where script mode began.
_SCRIPT_MODE_ONLY = ("sagemaker_parameter_server_enabled", "sagemaker_mpi_enabled")


class Mode(NamedTuple):
    """How a script is run, and one sentence that says why."""

    legacy: bool
    reason: str

    @property
    def name(self) -> str:
        """As ``--mode`` calls it."""
        return "legacy" if self.legacy else "script"


def choose_mode(path: Path, hyperparameters: Mapping[str, Any], mode: str | None = None) -> Mode:
    """Tell legacy from script mode, without importing the script.

    Args:
        path: the script.
        hyperparameters: SageMaker's own are among them.
        mode: "legacy" or "script"; None decides by the script.

    Raises:
        TrainingError: the file does not exist, or is not Python; names the line.

    Source: CONTRACT A8, with one rule changed: a file that never calls its train is legacy, even
        if train requires other parameters.  The job then fails, where it would do nothing and
        succeed in script mode.
    """
    if mode is not None:
        if mode not in ("legacy", "script"):
            raise TrainingError(f"unknown mode {mode!r}: use legacy or script")
        return Mode(mode == "legacy", "set by --mode")
    for name in _SCRIPT_MODE_ONLY:
        if name in hyperparameters:
            return Mode(False, f"the hyperparameter {name} exists only in script mode")
    if path.suffix != ".py":
        return Mode(False, f"{path.name} is not a .py file")
    if _is_in_package(path):
        return Mode(False, f"{path.name} belongs to a package with a setup.py")
    return _by_source(source.read(path), path.name)


def _is_in_package(path: Path) -> bool:
    """Whether ``path`` is a module of a package that a setup.py installs."""
    folder = path.resolve().parent
    while (folder / "__init__.py").is_file():
        if (folder / "setup.py").is_file() or (folder.parent / "setup.py").is_file():
            return True
        folder = folder.parent
    return False


def _by_source(script: source.ScriptFacts, name: str) -> Mode:
    """CONTRACT A8, 3 to 6."""
    train, sign = script.train, script.sign_of_script_mode
    if train is None:
        return Mode(False, f"{name} defines no train() at module level")
    if not script.has_main_guard and not script.calls_train:
        if sign and isinstance(train, (ast.Assign, ast.AnnAssign)):
            return Mode(False, f"{name} {sign}, and its train may not be a function")
        return Mode(True, f"{name} defines train(), and neither calls it nor has a main guard")
    does = f"{name} {'has a main guard' if script.has_main_guard else 'calls train()'}"
    if not isinstance(train, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return Mode(False, f"{does}, and the parameters of its train are unknown")
    unknown = [parameter for parameter in source.required(train) if parameter not in NAMES]
    if unknown:
        return Mode(
            False,
            f"{does}, and its train() requires {', '.join(unknown)}, "
            "which a legacy train() is not called with",
        )
    if sign:
        return Mode(False, f"{does} and {sign}")
    matching = [parameter for parameter in source.parameters(train) if parameter in NAMES]
    matching += [f"**{train.args.kwarg.arg}"] if train.args.kwarg else []
    if matching:
        names = ", ".join(matching)
        return Mode(True, f"{does}, but its train() takes {names}, as a legacy train() does")
    return Mode(False, f"{does}, and its train() takes none of a legacy train()'s arguments")
