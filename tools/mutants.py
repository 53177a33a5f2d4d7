"""Make mutants: copies of a module with one small change each, which a test should notice.

What decides no answer is not changed: docstrings, messages of exceptions, words in tables,
lines of the log, types, ``__all__``, and how far JSON is indented.  Nor is a pause
(``time.sleep``), after which a loop looks again: it decides when the loop ends, not how.  Limits,
times and counts that have a name become 0, and a comparison with one is turned around; one more or
less is no fault that anybody could notice.
"""

from __future__ import annotations

import ast
import copy
from typing import Any, Iterator, NamedTuple

_COMPARISONS = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
#: Instead, where the bound itself is a limit or a moment, which nobody meets exactly.
_OPPOSITES = {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt}
_ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}

#: Where a text decides something; elsewhere it is a message.
_DECIDING = (ast.Compare, ast.Dict, ast.Set, ast.Tuple, ast.List, ast.Subscript)

#: Methods whose argument is a time.
_WAITING = {"wait", "join", "settimeout"}

#: Calls for people alone: what they print decides nothing.
_LOGGING = {"log", "logging", "warnings", "print"}


class Mutant(NamedTuple):
    """A change of one place of a module.

    Fields:
        module: the module's path in the repository.
        line: the first line of what changes.
        number: tells the mutants of one module apart.
        before, after: the changed code.
    """

    module: str
    line: int
    number: int
    before: str
    after: str


def mutants(module: str, source: str) -> list[Mutant]:
    """All mutants of a module, in the order of its lines."""
    return [
        Mutant(module, line, number, before, after)
        for number, (line, before, after, _) in enumerate(_changes(source))
    ]


def mutated(source: str, mutant: Mutant) -> str:
    """The source of a module with one mutant's change.  Comments and line numbers are lost."""
    for number, (_, _, _, tree) in enumerate(_changes(source)):
        if number == mutant.number:
            return ast.unparse(tree())
    raise LookupError(mutant)


def _changes(source: str) -> Iterator[tuple[int, str, str, Any]]:
    """The line, the code before and after, and a function that makes the changed module."""
    tree = ast.parse(source)
    figures = set(_figures(tree))
    parts = {part for figure in figures for part in ast.walk(figure)} - figures
    for parent, field, index, node in _places(tree):
        if node in parts:
            continue
        for changed in [ast.Constant(0)] if node in figures else _variants(node, parent):
            before, after = _text(node), _text(changed)
            if before != after:

                def build(parent=parent, field=field, index=index, changed=changed):
                    return _replaced(tree, parent, field, index, changed)

                yield node.lineno, before, after, build


def _figures(tree: ast.Module) -> Iterator[ast.expr]:
    """The numbers of named constants, of parameters' and fields' defaults, and times.

    They are limits, times and counts, which were measured or agreed on.  One more is no fault that
    a test should notice; none at all is.  A number may be written as several, as in ``2**20``.
    """
    values: list[ast.AST | None] = []
    for statement in tree.body:
        targets = getattr(statement, "targets", [getattr(statement, "target", None)])
        names = [name for target in targets for name in getattr(target, "elts", [target])]
        if all(isinstance(name, ast.Name) and name.id.isupper() for name in names):
            values.append(statement.value)  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            values += [*node.defaults, *node.kw_defaults]
        if isinstance(node, ast.ClassDef):  # the defaults of a NamedTuple's fields
            values += [each.value for each in node.body if isinstance(each, ast.AnnAssign)]
        if isinstance(node, ast.keyword) and (node.arg or "").endswith(("_s", "timeout")):
            values.append(node.value)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in _WAITING:
            values += node.args
    for value in filter(None, values):
        yield from _numbers(value)


def _numbers(node: ast.AST) -> Iterator[ast.expr]:
    """The numbers in an expression that are not 0; those of a calculation are one."""
    inner = [each for each in ast.walk(node) if isinstance(each, ast.expr)]
    if isinstance(node, ast.expr) and all(
        isinstance(each, ast.BinOp) or type(getattr(each, "value", None)) in (int, float)
        for each in inner
    ):
        if not isinstance(node, ast.Constant) or node.value:
            yield node
        return
    for child in ast.iter_child_nodes(node):
        yield from _numbers(child)


def _text(node: ast.AST) -> str:
    """The first line of the code of a node."""
    return ast.unparse(node).splitlines()[0]


def _places(node: ast.AST) -> Iterator[tuple[ast.AST, str, Any, Any]]:
    """Each node that may change, with where it is: its parent's field, and its place in a list."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_comment", "type_params"):
            continue
        children = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, child in children:
            if not isinstance(child, ast.AST) or _decides_nothing(child):
                continue
            if hasattr(child, "lineno"):
                yield node, field, index, child
            yield from _places(child)


def _decides_nothing(node: ast.AST) -> bool:
    """Whether a node is a message, a call that logs, a pause, or anything else for people."""
    if isinstance(node, ast.JoinedStr):
        return True
    if isinstance(node, ast.keyword) and node.arg == "indent":
        return True
    if isinstance(node, ast.Assign):
        return any(isinstance(name, ast.Name) and name.id == "__all__" for name in node.targets)
    if isinstance(node, ast.Expr):
        call = node.value
        if isinstance(call, ast.Constant):
            return True
        name = getattr(call, "func", None)
        if getattr(name, "attr", "") == "sleep":
            return True
        while isinstance(name, ast.Attribute):
            name = name.value
        return isinstance(name, ast.Name) and name.id in _LOGGING
    return False


def _variants(node: Any, parent: ast.AST) -> Iterator[Any]:
    """What may stand in a node's place."""
    if isinstance(node, ast.Compare):
        table = {**_COMPARISONS, **_OPPOSITES} if _has_limit(node) else _COMPARISONS
        for index, operator in enumerate(node.ops):
            if type(operator) in table:
                changed = copy.deepcopy(node)
                changed.ops[index] = table[type(operator)]()
                yield changed
    elif isinstance(node, ast.BoolOp):
        operator = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield ast.BoolOp(operator, node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        if not isinstance(node.left, (ast.Constant, ast.JoinedStr)) or not isinstance(
            getattr(node.left, "value", ""), str
        ):
            yield ast.BinOp(node.left, _ARITHMETIC[type(node.op)](), node.right)
    elif isinstance(node, ast.Constant):
        yield from _constants(node, parent)
    elif isinstance(node, (ast.If, ast.IfExp)) and getattr(node.test, "id", "") != "TYPE_CHECKING":
        changed = copy.copy(node)
        changed.test = ast.Constant(False)
        yield changed
    elif isinstance(node, ast.Return) and node.value is not None:
        # None is as false as False, whose own mutant is True.
        value = node.value.value if isinstance(node.value, ast.Constant) else ...
        if value is not None and value is not False:
            yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Raise) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield ast.Pass()
    elif isinstance(node, ast.Continue):
        yield ast.Break()
    elif isinstance(node, ast.ExceptHandler):
        changed = copy.copy(node)
        changed.body = [ast.Raise()]
        yield changed


def _has_limit(node: ast.Compare) -> bool:
    """Whether something is compared with a named constant (see ``_figures``), or with the clock."""
    names = [getattr(child, "id", getattr(child, "attr", "")) for child in ast.walk(node)]
    return any(name.isupper() or name == "monotonic" for name in names)


def _constants(node: ast.Constant, parent: ast.AST) -> Iterator[ast.Constant]:
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, (int, float)):
        yield ast.Constant(node.value + 1)
    elif isinstance(node.value, (str, bytes)) and node.value and isinstance(parent, _DECIDING):
        if _is_for_people(node, parent):
            return
        if isinstance(parent, ast.Compare) and node is not parent.left and _looks_in(parent):
            yield ast.Constant(node.value[:-1])  # one letter more is in nothing
        else:
            yield ast.Constant(node.value + ("X" if isinstance(node.value, str) else b"X"))


def _is_for_people(node: ast.Constant, parent: ast.AST) -> bool:
    """Whether a text is a sentence, or what a table says in words."""
    words = 1 if isinstance(parent, ast.Dict) and node in parent.values else 4
    return not isinstance(parent, ast.Compare) and len(node.value.split()) > words


def _looks_in(node: ast.Compare) -> bool:
    return isinstance(node.ops[0], (ast.In, ast.NotIn))


def _replaced(tree: ast.AST, parent: ast.AST, field: str, index: Any, node: ast.AST) -> ast.AST:
    """The tree with another node in one place."""
    original = getattr(parent, field)
    if index is None:
        setattr(parent, field, node)
    else:
        setattr(parent, field, [*original[:index], node, *original[index + 1 :]])
    try:
        return ast.fix_missing_locations(copy.deepcopy(tree))
    finally:
        setattr(parent, field, original)
