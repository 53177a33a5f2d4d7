"""One setting: how it is declared, and how its variables are read."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Mapping, NamedTuple

from mms_handler.errors import SettingsError
from mms_handler.settings import texts

#: The place of a default that other fields decide.
DERIVED = object()


class Setting(NamedTuple):
    """One setting: variables, parsers, default, option and help text.

    Fields:
        default: the value if nothing sets it.
        variables: environment variables and their parsers; the first variable that is set counts.
        help: what the setting does, in one sentence, for --help and docs/settings.md.
        default_text: the default in words, if the value does not show it.
        unit: the unit of the first variable and of the option.
        option: the command-line option without its dashes, or "".
        metavar: what --help calls the option's value, if it has no unit.
        text: writes a value the way the first variable holds it.
        follows: the field from which ``derive`` makes the default.
        derive: makes the default from the values of the fields declared above this one.
    """

    default: Any
    variables: Mapping[str, Callable[[str], Any]]
    help: str
    default_text: str = ""
    unit: str = ""
    option: str = ""
    metavar: str = "NUMBER"
    text: Callable[[Any], str] = texts.to_text
    follows: str = ""
    derive: Callable[[Mapping[str, Any]], Any] | None = None

    def default_for(self, values: Mapping[str, Any]) -> Any:
        """The default if the settings declared above have ``values``."""
        return self.derive(values) if self.derive else self.default


def declare(
    default: Any, variables: Mapping[str, Callable[[str], Any]], help: str, **more: Any
) -> Any:
    """A field of Settings, which holds DERIVED until its default is made of other fields."""
    setting = Setting(default, variables, help, **more)
    start = DERIVED if setting.derive else default
    return dataclasses.field(default=start, metadata={"setting": setting})


def parse(env: Mapping[str, str], variable: str, parser: Callable[[str], Any]) -> Any:
    """The value of a variable in ``env``.

    Raises:
        SettingsError: names the variable, its text and what is valid.
    """
    try:
        return parser(env[variable])
    except ValueError as exc:
        raise SettingsError(f"{variable}: {env[variable]!r} is not {exc}") from None
