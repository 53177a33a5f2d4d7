"""Whether a file is a legacy script, whose train() is called, or a script-mode one, which is run.

setting ─▶ hyperparameters ─▶ .py? ─▶ train there? ─▶ main guard? ─▶ what the file reads and wants

Told by the file's syntax tree alone: importing a script-mode file would train.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import warnings
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple, Sequence, Union

from mms_handler.errors import TrainingError

#: The keyword arguments of the contract, in the guide's order.
NINE = (
    "hyperparameters",
    "input_data_config",
    "channel_input_dirs",
    "output_data_dir",
    "model_dir",
    "num_gpus",
    "num_cpus",
    "hosts",
    "current_host",
)

#: Hyperparameters that the SDK sends for MXNet 1.3 and newer only, with which came script mode.
_SCRIPT_ONLY = ("sagemaker_parameter_server_enabled", "sagemaker_mpi_enabled")

#: What only script-mode files import.
_TOOLKITS = frozenset(
    "sagemaker_mxnet_container sagemaker_mxnet_training sagemaker_containers "
    "sagemaker_training".split()
)
_VARIABLE = re.compile(r"SM_[A-Z]")

_Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]


class Mode(NamedTuple):
    """What a file is, and one sentence that says why."""

    legacy: bool
    reason: str

    @property
    def name(self) -> str:
        """As the setting calls it."""
        return "legacy" if self.legacy else "script"


def choose(path: Path, hyperparameters: Mapping[str, Any], wanted: str | None = None) -> Mode:
    """Tell legacy from script mode, without importing anything.

    Args:
        path: the entry point.
        hyperparameters: those of SageMaker among them.
        wanted: "legacy" or "script", whatever the file looks like.

    Raises:
        TrainingError: the file is not there, or is not Python; says in which line.

    Source: CONTRACT A8. One point is sharper: a train that nothing would call is legacy whatever
        it wants, so that what it wants is an error, and not a job that did nothing.
    """
    if wanted is not None:
        return _as_wanted(wanted)
    for name in _SCRIPT_ONLY:
        if name in hyperparameters:
            return Mode(False, f"the hyperparameter {name} is of script mode only")
    if path.suffix != ".py":
        return Mode(False, f"{path.name} is not a .py file")
    if _is_in_package(path):
        return Mode(False, f"{path.name} is in a package with a setup.py")
    return _judge(_File(path), path.name)


def required_parameters(path: Path) -> list[str] | None:
    """The parameters without a default of the ``train`` in a file, in their order.

    Returns:
        None where they cannot be told: there is no ``def train`` at its top, or it is decorated.

    Raises:
        TrainingError: the file is not there, or is not Python; says in which line.
    """
    train = _File(path).train
    if not isinstance(train, ast.FunctionDef) or train.decorator_list:
        return None
    return _required(train)


def _as_wanted(wanted: str) -> Mode:
    if wanted not in ("legacy", "script"):
        raise TrainingError(f"the mode is legacy or script, not {wanted!r}")
    return Mode(wanted == "legacy", "it was asked for")


def _is_in_package(path: Path) -> bool:
    """Whether a setup.py makes a package of which ``path`` is a module."""
    folder = path.resolve().parent
    while (folder / "__init__.py").is_file():
        if (folder / "setup.py").is_file() or (folder.parent / "setup.py").is_file():
            return True
        folder = folder.parent
    return False


# --- the rules -------------------------------------------------------------------------------


def _judge(file: _File, name: str) -> Mode:
    """CONTRACT A8, 3 to 6."""
    if file.train is None:
        return Mode(False, f"{name} defines no train at its top")
    trace = file.trace()
    if not file.guarded and not file.calls_train:
        if trace and isinstance(file.train, (ast.Assign, ast.AnnAssign)):
            return Mode(False, f"{name} {trace}, and its train need not be a function")
        return Mode(True, f"{name} defines train, has no main guard and does not call it itself")
    does = f"{name} {'has a main guard' if file.guarded else 'calls train at its top'}"
    if not isinstance(file.train, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return Mode(False, f"{does}, and what its train takes cannot be told")
    strange = [one for one in _required(file.train) if one not in NINE]
    if strange:
        return Mode(
            False, f"{does}, and its train wants {', '.join(strange)}, which is not legacy's"
        )
    if trace:
        return Mode(False, f"{does} and {trace}")
    taken = _taken(file.train)
    if taken:
        return Mode(True, f"{does}, but its train takes {', '.join(taken)} as legacy's does")
    return Mode(False, f"{does}, and its train takes nothing that legacy's does")


def _required(train: _Function) -> list[str]:
    given = train.args
    placed = [*given.posonlyargs, *given.args]
    named = [arg for arg, value in zip(given.kwonlyargs, given.kw_defaults) if value is None]
    return [arg.arg for arg in placed[: len(placed) - len(given.defaults)] + named]


def _taken(train: _Function) -> list[str]:
    """What of the contract ``train`` has parameters for."""
    given = train.args
    names = [arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    kwargs = [f"**{given.kwarg.arg}"] if given.kwarg else []
    return [name for name in names if name in NINE] + kwargs


# --- the file --------------------------------------------------------------------------------


class _File:
    """What the rules ask of a file."""

    def __init__(self, path: Path) -> None:
        self._tree = _parse(path)
        self._top = list(_top(self._tree.body))
        self.train = _binding(self._top, path.resolve().parent)
        self.guarded = any(map(_is_guard, self._top))

    @property
    def calls_train(self) -> bool:
        """Whether what is executed at its top comes to train, be it through other functions."""
        functions = {
            node.name: node
            for node in self._top
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        }
        todo, seen = list(_called(self._top)), {"train"}
        while todo:
            name = todo.pop()
            if name == "train":
                return True
            if name in functions and name not in seen:
                todo += _loaded(functions[name])
            seen.add(name)
        return False

    def trace(self) -> str:
        """What of script mode its code speaks of, in words; not its comments and docstrings."""
        nodes = list(ast.walk(self._tree))
        said = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        code = [one.value for one in nodes if isinstance(one, ast.Constant) and id(one) not in said]
        texts = [value for value in code if isinstance(value, str)]
        read = [f"reads {text.split()[0]}" for text in texts if _VARIABLE.match(text)]
        roots = [name.partition(".")[0] for node in nodes for name in _imported(node)]
        imports = [f"imports {root}" for root in roots if root in _TOOLKITS]
        return next(iter(read + imports), "")


def _parse(path: Path) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they come when the file is run, once
            return ast.parse(path.read_bytes(), str(path))
    except OSError as exc:
        raise TrainingError(f"{path} cannot be read: {exc.strerror}") from exc
    except SyntaxError as exc:
        raise TrainingError(f"{path.name}, line {exc.lineno}: {exc.msg}") from exc
    except ValueError as exc:  # zero bytes, up to Python 3.11
        raise TrainingError(f"{path.name} is not Python: {exc}") from exc


def _top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that importing executes: those in if, try and the like, not a main guard's."""
    for node in body:
        yield node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        for part in ("body", "handlers", "cases", "orelse", "finalbody"):
            if part == "body" and _is_guard(node):
                continue
            for inner in getattr(node, part, []):  # a handler or a case is no statement itself
                yield from _top([inner] if isinstance(inner, ast.stmt) else inner.body)


def _is_guard(node: ast.stmt) -> bool:
    """Whether ``node`` is ``if __name__ == "__main__":`` in some spelling."""
    if not isinstance(node, ast.If):
        return False
    test = list(ast.walk(node.test))
    names = {one.id for one in test if isinstance(one, ast.Name)}
    return "__name__" in names and any(
        isinstance(one, ast.Constant) and one.value == "__main__" for one in test
    )


def _called(top: list[ast.stmt]) -> Iterator[str]:
    """The names of what the statements themselves call."""
    for node in top:
        for one in _own_expressions(node):
            if isinstance(one, ast.Call) and isinstance(one.func, ast.Name):
                yield one.func.id


def _own_expressions(node: ast.AST) -> Iterator[ast.AST]:
    """What is in a statement, but for the statements and functions in it."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
        return
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.stmt, ast.ExceptHandler)):
            yield child
            yield from _own_expressions(child)


def _loaded(used: ast.AST) -> Iterator[str]:
    """The names that a function, or a class, uses."""
    for node in ast.walk(used):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id


def _imported(node: ast.AST) -> list[str]:
    """The modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []


# --- what train is -----------------------------------------------------------------------------


def _binding(top: list[ast.stmt], folder: Path, seen: frozenset[Path] = frozenset()) -> Any:
    """The node that gives ``train`` its value, be it in another file; None without one.

    Args:
        top: statements, of which the last that binds it counts.
        folder: of the file they are from.
        seen: files that import each other.
    """
    found: Any = None
    for node in top:
        if isinstance(node, ast.ImportFrom):
            found = _from(node, folder, seen) or found
        elif _binds(node):
            found = node
    return found


def _binds(node: ast.stmt) -> bool:
    """Whether ``node`` gives the name a value that may be a function: ``import train`` does not.

    Nor do loops and unpacking: ``train, test = split(data)``.
    """
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return node.name == "train"
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    else:
        return False
    named = any(isinstance(target, ast.Name) and target.id == "train" for target in targets)
    return named and isinstance(node.value, (ast.Name, ast.Attribute, ast.Call, ast.Lambda))


def _from(node: ast.ImportFrom, folder: Path, seen: frozenset[Path]) -> Any:
    """What a ``from ... import`` binds ``train`` to, if it does."""
    for alias in node.names:
        if alias.name == "*" or (alias.asname or alias.name) == "train":
            name = "train" if alias.name == "*" else alias.name
            found = _look_up(_file_of(node, folder), seen) if name == "train" else None
            if found or alias.name == "*" or _is_module(node, folder, name):
                return found
            return node
    return None


def _look_up(path: Path | None, seen: frozenset[Path]) -> Any:
    """What ``path`` binds ``train`` to."""
    if path is None or path in seen:
        return None
    return _binding(list(_top(_parse(path).body)), path.parent, seen | {path})


def _file_of(node: ast.ImportFrom, folder: Path) -> Path | None:
    """The file that is imported from."""
    for place in _places(node, folder):
        for path in (place / "__init__.py", place.parent / f"{place.name}.py"):
            if path.is_file():
                return path
    return None


def _is_module(node: ast.ImportFrom, folder: Path, name: str) -> bool:
    """Whether ``from package import name`` gives a module of the package, and no function."""
    return any((place / f"{name}.py").is_file() for place in _places(node, folder))


def _places(node: ast.ImportFrom, folder: Path) -> list[Path]:
    """Where the imported module may be: beside the script, in its ``lib``, or installed."""
    for _ in range(node.level - 1):
        folder = folder.parent
    inner = (node.module or "").split(".")
    bases = [folder] if node.level else [folder, folder / "lib", *_installed(inner[0])]
    return [base.joinpath(*inner) for base in bases]


def _installed(name: str) -> list[Path]:
    """The folder with an installed module or package, found without importing it."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return []
    inner = spec.submodule_search_locations if spec else None
    if inner:
        return [Path(one).parent for one in inner]
    return [Path(spec.origin).parent] if spec and spec.origin else []


def check_required(names: Sequence[str]) -> None:
    """Refuse a train whose required parameters include others than the nine.

    Raises:
        TrainingError: names them.
    """
    missing = [name for name in names if name not in NINE]
    if missing:
        raise TrainingError(
            f"train wants {', '.join(missing)}, which nothing passes; "
            f"passed are {', '.join(NINE)}; "
            "a file that trains by itself wants --mode script"
        )
