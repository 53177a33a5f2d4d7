"""One thing that was looked at."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """What was found.

    Attributes:
        name: what was looked at.
        state: "ok"; "warning", if it may be too little; "problem", if it stands in the way.
        text: what there is.
        advice: what to do; "" if all is well.
    """

    name: str
    state: str
    text: str
    advice: str = ""


def ok(name: str, text: str) -> Finding:
    return Finding(name, "ok", text)


def warning(name: str, text: str, advice: str) -> Finding:
    return Finding(name, "warning", text, advice)


def problem(name: str, text: str, advice: str) -> Finding:
    return Finding(name, "problem", text, advice)
