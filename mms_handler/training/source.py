"""Facts about a script from its syntax tree.  The script is not imported or run."""

from __future__ import annotations

import ast
import importlib.util
import re
import warnings
from pathlib import Path
from typing import Iterator, NamedTuple, Sequence, Union

from mms_handler.causes import syntax_message
from mms_handler.errors import TrainingError

#: Packages that only script-mode files import.
_TOOLKITS = frozenset(
    "sagemaker_mxnet_container sagemaker_mxnet_training sagemaker_containers "
    "sagemaker_training".split()
)
_SM_VARIABLE = re.compile(r"SM_(?!CHECKPOINT_DIR|SEED)[A-Z]")  # those two are for both modes

_Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]


class ScriptFacts(NamedTuple):
    """The facts that decide between legacy and script mode."""

    train: ast.stmt | None  # the statement that binds ``train``, maybe in another file
    has_main_guard: bool
    calls_train: bool  # when the file is imported, maybe through its other functions
    sign_of_script_mode: str  # such as "reads SM_HOSTS"; "" without one


def read(path: Path) -> ScriptFacts:
    """Read the script at ``path``.

    Raises:
        TrainingError: the file does not exist, or is not Python; names the line.
    """
    tree = _parse(path)
    statements = list(_module_level(tree.body))
    return ScriptFacts(
        _train_in(statements, path.resolve().parent),
        any(map(_is_main_guard, statements)),
        _calls_train(statements),
        _sign_of_script_mode(tree),
    )


def required_parameters(path: Path) -> list[str] | None:
    """The parameters without a default of the ``train`` in a file, in their order.

    Returns:
        None if they are unknown: the file has no ``def train`` at module level, or the function
        is decorated.

    Raises:
        TrainingError: the file does not exist, or is not Python; names the line.
    """
    train = read(path).train
    if not isinstance(train, ast.FunctionDef) or train.decorator_list:
        return None
    return required(train)


def required(function: _Function) -> list[str]:
    """The parameters without a default, in their order."""
    signature = function.args
    positional = [*signature.posonlyargs, *signature.args]
    count = len(positional) - len(signature.defaults)
    named = zip(signature.kwonlyargs, signature.kw_defaults)
    keyword_only = [parameter for parameter, default in named if default is None]
    return [parameter.arg for parameter in positional[:count] + keyword_only]


def parameters(function: _Function) -> list[str]:
    """All parameters but ``*args`` and ``**kwargs``, in their order."""
    signature = function.args
    return [
        parameter.arg
        for parameter in (*signature.posonlyargs, *signature.args, *signature.kwonlyargs)
    ]


def _parse(path: Path) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they appear when the file is run
            return ast.parse(path.read_bytes(), str(path))
    except OSError as exc:
        raise TrainingError(f"cannot read {path}: {exc.strerror}") from exc
    except SyntaxError as exc:
        place = f"{path.name}, line {exc.lineno}" if exc.lineno else path.name
        raise TrainingError(f"{place}: {syntax_message(exc)}") from exc
    except ValueError as exc:  # zero bytes, up to Python 3.11.3
        raise TrainingError(f"{path.name}: {exc}") from exc


# --- what importing the file executes --------------------------------------------------------


def _module_level(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that an import executes, also inside if, try etc., but not in a main guard."""
    for statement in body:
        yield statement
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        for part in ("body", "handlers", "cases", "orelse", "finalbody"):
            if part == "body" and _is_main_guard(statement):
                continue
            for inner in getattr(statement, part, []):  # a handler or a case is not a statement
                yield from _module_level([inner] if isinstance(inner, ast.stmt) else inner.body)


def _is_main_guard(statement: ast.stmt) -> bool:
    """Whether ``statement`` is ``if __name__ == "__main__":`` in any spelling."""
    if not isinstance(statement, ast.If):
        return False
    nodes = list(ast.walk(statement.test))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    constants = [node.value for node in nodes if isinstance(node, ast.Constant)]
    return "__name__" in names and "__main__" in constants


def _calls_train(statements: Sequence[ast.stmt]) -> bool:
    """Whether importing the file calls ``train``, directly or through its other functions."""
    functions = {
        statement.name: statement
        for statement in statements
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    }
    names = [
        node.func.id
        for statement in statements
        for node in _expressions(statement)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    visited: set[str] = set()
    while names:
        name = names.pop()
        if name == "train":
            return True
        if name in functions and name not in visited:
            names += _names_used(functions[name])
        visited.add(name)
    return False


def _expressions(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a statement, except those of statements and functions inside it."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
        return
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.stmt, ast.ExceptHandler)):
            yield child
            yield from _expressions(child)


def _names_used(node: ast.AST) -> list[str]:
    return [
        child.id
        for child in ast.walk(node)
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load)
    ]


def _sign_of_script_mode(tree: ast.Module) -> str:
    """The first SM_* variable in the code, else the first toolkit that it imports.

    Comments and docstrings do not count, because they may quote the other kind of script.
    """
    nodes = list(ast.walk(tree))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    constants = [
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and id(node) not in docstrings
    ]
    for text in constants:
        if isinstance(text, str) and _SM_VARIABLE.match(text):
            return f"reads {text.split()[0]}"
    for module in [module for node in nodes for module in _imported_modules(node)]:
        package = module.partition(".")[0]
        if package in _TOOLKITS:
            return f"imports {package}"
    return ""


def _imported_modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []


# --- what train is -----------------------------------------------------------------------------


def _train_in(
    statements: Sequence[ast.stmt], folder: Path, visited: frozenset[Path] = frozenset()
) -> ast.stmt | None:
    """The statement that binds ``train``, maybe in another file; None without one.

    Args:
        statements: a file's, at module level; the last one that binds ``train`` counts.
        folder: the file's.
        visited: the files that led to this one; they may import each other.
    """
    train: ast.stmt | None = None
    for statement in statements:
        if isinstance(statement, ast.ImportFrom):
            train = _imported_train(statement, folder, visited) or train
        elif _binds_train(statement):
            train = statement
    return train


def _binds_train(statement: ast.stmt) -> bool:
    """Whether ``statement`` binds ``train`` to a value that may be a function.

    ``import train`` does not, nor do loops and unpacking: ``train, test = split(data)``.
    """
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return statement.name == "train"
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    else:
        return False
    named = any(isinstance(target, ast.Name) and target.id == "train" for target in targets)
    return named and isinstance(statement.value, (ast.Name, ast.Attribute, ast.Call, ast.Lambda))


def _imported_train(
    statement: ast.ImportFrom, folder: Path, visited: frozenset[Path]
) -> ast.stmt | None:
    """What ``from ... import ...`` binds ``train`` to, if it does.

    The result is the statement itself if the function's definition cannot be read.
    """
    for alias in statement.names:
        if alias.name == "*" or (alias.asname or alias.name) == "train":
            is_star = alias.name == "*"
            train = None
            if alias.name in ("*", "train"):
                train = _train_of(_file_of(statement, folder), visited)
            if train or is_star or _is_module(statement, folder, alias.name):
                return train
            return statement
    return None


def _train_of(path: Path | None, visited: frozenset[Path]) -> ast.stmt | None:
    if path is None or path in visited:
        return None
    statements = list(_module_level(_parse(path).body))
    return _train_in(statements, path.parent, visited | {path})


def _file_of(statement: ast.ImportFrom, folder: Path) -> Path | None:
    """The file that ``from module import ...`` reads."""
    for place in _places(statement, folder):
        for path in (place / "__init__.py", place.parent / f"{place.name}.py"):
            if path.is_file():
                return path
    return None


def _is_module(statement: ast.ImportFrom, folder: Path, name: str) -> bool:
    """Whether ``from package import name`` binds a module, which is not a function."""
    return any((place / f"{name}.py").is_file() for place in _places(statement, folder))


def _places(statement: ast.ImportFrom, folder: Path) -> list[Path]:
    """Where the imported module may be: beside the script, in its ``lib``, or installed."""
    for _ in range(statement.level - 1):
        folder = folder.parent
    names = (statement.module or "").split(".")
    roots = [folder] if statement.level else [folder, folder / "lib", *_site_folders(names[0])]
    return [root.joinpath(*names) for root in roots]


def _site_folders(name: str) -> list[Path]:
    """The folder in which a module or package is installed, without importing it."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return []
    locations = spec.submodule_search_locations if spec else None
    if locations:
        return [Path(location).parent for location in locations]
    return [Path(spec.origin).parent] if spec and spec.origin else []
