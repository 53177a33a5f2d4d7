"""Find names in a script that are nearly those of the contract: ``tranform_fn``, ``modle``.

A script may have any helpers, so a function is named only if nothing in the script uses it.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import re
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Iterable, Iterator

#: The last word of a hook's name, however it is written.
_FUNCTION = re.compile(r"_?(?:function|funct|func|fcn|fnc|fun|fn|nf)$")

#: How alike two names must be, from 0 to 1: "modle" and "model" are, by 0.8.
_ALIKE = 0.8


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of ``names`` that ``name`` is probably meant to be, if any."""
    likely = [other for other in names if abs(len(other) - len(name)) <= 2]
    matches = difflib.get_close_matches(name.lower(), likely, 1, _ALIKE)
    return matches[0] if matches else None


def misspelt_hooks(module: ModuleType, hooks: Iterable[str]) -> Iterator[str]:
    """Sentences about functions of an imported script that were probably meant to be hooks.

    Args:
        module: the script.
        hooks: the names of the hooks that it lacks.
    """
    folder = Path(str(module.__file__)).parent
    for name, function in list(vars(module).items()):
        hook = _meant(name, hooks)
        if hook is None or not isinstance(function, FunctionType):
            continue
        code = inspect.unwrap(function).__code__
        path = Path(code.co_filename)
        if folder in path.parents and not _is_used(name, {path, Path(str(module.__file__))}):
            place = f"{path.relative_to(folder)}, line {code.co_firstlineno}"
            yield f"{name} is never called ({place}); did you mean {hook}?"


def _meant(name: str, hooks: Iterable[str]) -> str | None:
    """The hook whose name ``name`` nearly is.

    A name with further words, such as my_model_fn or transform_image_fn, is another function's,
    and so is one with a number.
    """
    if name.startswith("_") or not _FUNCTION.search(name.lower()) or re.search(r"\d", name):
        return None
    words, letters = _words(name)
    candidates = {}
    for hook in hooks:
        hook_words, hook_letters = _words(hook)
        is_longer = words != hook_words or letters.endswith(hook_letters)
        if letters == hook_letters or not is_longer:
            candidates[hook_letters] = hook
    return candidates.get(nearest(letters, candidates) or "")


def _words(name: str) -> tuple[int, str]:
    """How many underscores are in a function's name before its last word, and the letters there."""
    stem = _FUNCTION.sub("", name.lower())
    return stem.count("_"), stem.replace("_", "")


def _is_used(name: str, paths: Iterable[Path]) -> bool:
    """Whether code in one of the files names a function, outside of ``if __name__ == ...``."""
    for path in paths:
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, ValueError, SyntaxError):
            return True  # nobody knows
        tree.body = [statement for statement in tree.body if not _is_main_guard(statement)]
        for node in ast.walk(tree):
            # A name, an attribute, or a text such as that of getattr(module, "predict_func").
            if name in (getattr(node, field, None) for field in ("id", "attr", "value")):
                return True
    return False


def _is_main_guard(statement: ast.stmt) -> bool:
    """Whether a statement of a file runs only where the file is a program."""
    return isinstance(statement, ast.If) and any(
        isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(statement.test)
    )
