"""The combinations of hyperparameters that a sweep tries.

lr=0.1,0.01  layers=[1,2],[3]  epochs=5 ──▶ 2 x 2 x 1 points
"""

from __future__ import annotations

import itertools
import json
from typing import Mapping

from mms_handler.errors import TrainingError


def points(values: Mapping[str, str]) -> list[dict[str, str]]:
    """Each combination of the values that the texts list, the last name's changing fastest.

    Args:
        values: by name, each a text such as ``0.1,0.01``.

    Raises:
        TrainingError: a value is missing, or begins as JSON and is none; names it.
    """
    lists = [split_values(name, text) for name, text in values.items()]
    return [dict(zip(values, combination)) for combination in itertools.product(*lists)]


def split_values(name: str, text: str) -> list[str]:
    """The values in ``text``, separated by commas; a comma within JSON separates nothing.

    Raises:
        TrainingError: a value is missing, or begins as JSON and is none.
    """
    values = []
    rest = text
    while True:
        rest = rest.lstrip()
        end = _json_end(rest)
        if end is None or rest[end:].lstrip()[:1] not in ("", ","):
            _check_plain(name, rest.partition(",")[0])
            end = len(rest.partition(",")[0])
        values.append(rest[:end].rstrip())
        if not rest[end:].strip():
            return values
        rest = rest[end:].partition(",")[2]


def _json_end(text: str) -> int | None:
    """Where the JSON value ends with which ``text`` begins; None if it begins with none."""
    try:
        return json.JSONDecoder().raw_decode(text)[1]
    except ValueError:
        return None


def _check_plain(name: str, value: str) -> None:
    if not value.strip():
        raise TrainingError(
            f'--hp {name}: a value is missing between commas; write "" for an empty text'
        )
    if value[0] in '[{"':
        raise TrainingError(
            f"--hp {name}: {value} begins as JSON, but is not valid JSON; a text with a comma in "
            f"it is written as JSON, and quoted for the shell: --hp '{name}=\"a,b\"'"
        )
