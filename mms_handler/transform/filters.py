"""Filters: the part of a record that a JSONPath selects, as in SageMaker's batch transform.

    a name, an index   its value                        $.features, $[0], $.scores[-1]
    several names      an object of them                $['id','SageMakerOutput']
    anything else      a list of all that is selected   $[1:], $[0,5:], $.id.*

Source: SageMaker's developer guide, "Associate Prediction Results with Input Records"; its
operators are those of Jayway's JsonPath, where the end of a slice is not part of it.
"""

from __future__ import annotations

import importlib.util
from typing import Any, List, Union

from mms_handler.errors import BadInput, SettingsError

#: Characters of a path that SageMaker takes.
MAX_PATH = 63

#: Characters of a value in a message.
_MAX_TEXT = 40

_OPERATORS = "$  .name  ['name', 'name']  [index, index]  [start:end]  *"


#: A name, an index, or a slice; a wildcard is _ALL.
_Part = Union[str, int, slice, None]
_ALL = None

_Step = List[_Part]


class Filter:
    """A JSONPath, and the name of the parameter that it was given by.

    Attributes:
        everything: whether the path is "$", so that ``select`` returns what it gets.
    """

    def __init__(self, name: str, path: str) -> None:
        """Read the path.

        Args:
            name: InputFilter or OutputFilter, for messages.
            path: the JSONPath.

        Raises:
            SettingsError: the path is wrong, or has what SageMaker does not support; or
                python-jsonpath is not installed.
        """
        self._title = f"{name} {path!r}"
        self._steps = [] if path == "$" else self._read(path)
        self.everything = not self._steps

    def check_columns(self) -> None:
        """Check that the path can be used on the columns of CSV, which have no names.

        Raises:
            SettingsError: it cannot.
        """
        if any(isinstance(part, str) for step in self._steps for part in step):
            raise SettingsError(
                f"{self._title} has a name, but the columns of CSV have indices only, as in $[1:]"
            )

    def _read(self, path: str) -> list[_Step]:
        if len(path) > MAX_PATH:
            raise SettingsError(
                f"{self._title} has {len(path)} characters; SageMaker's limit is {MAX_PATH}"
            )
        if not path.startswith("$"):
            raise SettingsError(f"{self._title} does not begin with $, which is the record")
        if importlib.util.find_spec("jsonpath") is None:
            raise SettingsError(
                f"{self._title} needs python-jsonpath, which is not installed: "
                "pip install 'mms_handler[transform]'"
            )
        import jsonpath

        try:
            # SageMaker's guide allows a dot before brackets, as Jayway's JsonPath does.
            parsed = jsonpath.compile(path.replace(".[", "["))
        except jsonpath.JSONPathError as exc:
            reason = str(exc).splitlines()[0]
            raise SettingsError(f"{self._title} is not a JSONPath: {reason}") from None
        try:
            # Several paths in one have no segments.
            return [_step(segment) for segment in getattr(parsed, "segments", [None])]
        except TypeError:
            raise SettingsError(
                f"{self._title} uses what SageMaker does not support; it supports {_OPERATORS}"
            ) from None

    def select(self, value: Any) -> Any:
        """What the path selects of a record's value.

        Raises:
            BadInput: the value does not have a name or an index of the path, or nothing is
                selected.
        """
        for at, step in enumerate(self._steps):
            if len(step) > 1 or not isinstance(step[0], (str, int)):
                return self._several(value, step, self._steps[at + 1 :])
            value = self._item(value, step[0])
        return value

    def _several(self, value: Any, step: _Step, rest: list[_Step]) -> Any:
        """What a step with several parts, or a part with several values, and the rest select."""
        names = [part for part in step if isinstance(part, str)]
        if len(names) == len(step) and not rest:
            return {name: self._item(value, name) for name in names}
        values = [
            item
            for part in step
            for item in (
                [self._item(value, part)] if isinstance(part, (str, int)) else _items(value, part)
            )
        ]
        for later in rest:
            values = [inner for item in values for part in later for inner in _items(item, part)]
        if not values:
            raise BadInput(f"{self._title} selects nothing of {_brief(value)}")
        return values

    def _item(self, value: Any, part: str | int) -> Any:
        items = _items(value, part)
        if not items:
            kind = "name" if isinstance(part, str) else "index"
            raise BadInput(f"{self._title}: {_brief(value)} has no {kind} {part!r}")
        return items[0]


def _step(segment: Any) -> _Step:
    """The parts of a path's segment.

    Raises:
        TypeError: it has parts that SageMaker does not support.
    """
    from jsonpath.segments import JSONPathChildSegment

    if not isinstance(segment, JSONPathChildSegment):
        raise TypeError(segment)
    return [_part(selector) for selector in segment.selectors]


def _part(selector: Any) -> _Part:
    from jsonpath import selectors

    if isinstance(selector, selectors.NameSelector):
        return str(selector.name)
    if isinstance(selector, selectors.IndexSelector):
        return int(selector.index)
    if isinstance(selector, selectors.SliceSelector) and selector.slice.step in (None, 1):
        return slice(selector.slice.start, selector.slice.stop)
    if isinstance(selector, selectors.WildcardSelector):
        return _ALL
    raise TypeError(selector)


def _items(value: Any, part: _Part) -> list[Any]:
    """The values that a part selects; [] if there are none."""
    if isinstance(value, dict):
        if isinstance(part, str):
            return [value[part]] if part in value else []
        return list(value.values()) if part is _ALL else []
    if not isinstance(value, list):
        return []
    if isinstance(part, int):
        return [value[part]] if -len(value) <= part < len(value) else []
    if isinstance(part, slice):
        return value[part]
    return list(value) if part is _ALL else []


def _brief(value: Any) -> str:
    """A value in a message, by what it has."""
    if isinstance(value, dict):
        names = ", ".join(map(repr, value))
        return f"an object with the names {names[:_MAX_TEXT]}" if value else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"the value {str(value)[:_MAX_TEXT]!r}"
