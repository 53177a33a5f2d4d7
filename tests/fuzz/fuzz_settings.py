"""Target: settings, read from an environment of any texts."""

from __future__ import annotations

from fuzz_checks import outcome
from fuzz_input import Choices

from mms_handler import server
from mms_handler.errors import SettingsError
from mms_handler.settings import TABLE, Settings, effective, names

_VARIABLES = sorted({variable for setting in TABLE.values() for variable in setting.variables})
_VARIABLES += [*names.PASSED_ON.values(), *names.REFUSED, "MMS_NOTHING"]

_TEXTS = [
    *("0", "1", "-1", "8080", "70000", " 7 ", "1e3", "true", "No", "0x10", "99999999999999999999"),
    *("8081-8085", "9-1", "model, data", "float", "a,b", "127.0.0.1", "::1", "a\nb=c", "\0", "٣"),
]


def settings(data: bytes) -> None:
    """What was read is what another process reads, and one line each in MMS's configuration."""
    choices, env = Choices(data), {}
    while choices.more() and len(env) < 8:
        text = choices.pick([*_TEXTS, choices.text(20)])
        env[choices.pick(_VARIABLES)] = text.replace("\0", "")  # no environment can hold a NUL
    read = outcome(effective, env, {})
    if isinstance(read, Exception):
        assert isinstance(read, SettingsError)
        assert any(name in str(read) for name in env)
        return
    handed_on = read.settings.variables()
    assert Settings.from_env(handed_on) == read.settings, handed_on
    lines = outcome(server.config_properties, read.settings).splitlines()
    keys = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    assert keys <= _known_keys(), keys - _known_keys()


def _known_keys() -> set[str]:
    defaults = server.config_properties(Settings(workers=1, netty_threads=1))
    known = {line.partition("=")[0] for line in defaults.splitlines() if line[:1] != "#"}
    return known | set(names.PASSED_ON)


TARGETS = {
    "settings": (
        settings,
        lambda: [
            bytes([text, variable])
            for variable in range(len(_VARIABLES))
            for text in (1, 3, 7, 11, 17)
        ],
    )
}
