"""Who may use the server: bearer tokens, and the names by which the management API is called.

A page of another site can make a browser on this machine send requests.  A browser names that site
in Origin, or, if the site's name leads to this machine (DNS rebinding), in Host.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import stat
from email.message import Message
from pathlib import Path
from typing import NamedTuple, Sequence

from mms_handler.errors import Forbidden, SettingsError, Unauthorized
from mms_handler.settings import Settings

#: A token of RFC 6750, section 2.1, of a length that is neither guessed nor mistyped.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_LENGTHS = range(16, 513)

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)\.?(?::\d*)?")


class Tokens(NamedTuple):
    """The tokens that requests need; "" for none.

    Fields:
        others: further ones for inference, of other clients.
    """

    inference: str = ""
    management: str = ""
    others: tuple[str, ...] = ()

    def text(self) -> str:
        """The tokens as the gate reads them (java/mms_handler/Access.java)."""
        names = {"inference": (self.inference, *self.others), "management": (self.management,)}
        return "".join(
            f"{name} {token}\n" for name, tokens in names.items() for token in tokens if token
        )


def read_tokens(path: Path) -> Tokens:
    """Read a token file: lines "inference TOKEN" and "management TOKEN", comments, blank lines.

    There may be several for inference, one for each client.

    Raises:
        SettingsError: it cannot be read, or a line is invalid.  No message has a token.
    """
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not ASCII"
        raise SettingsError(f"the token file {path} cannot be read: {reason}") from None
    tokens: dict[str, str] = {}
    others: list[str] = []
    for number, line in enumerate(lines, 1):
        name, _, token = line.strip().partition(" ")
        token = token.strip()
        if not name or name.startswith("#"):
            continue
        place = f"the token file {path}, line {number}"
        if name not in ("inference", "management") or (name == "management" and name in tokens):
            raise SettingsError(
                f"{place}: expected inference TOKEN, of each client, or management TOKEN, once"
            )
        if not _TOKEN.fullmatch(token) or len(token) not in _LENGTHS:
            raise SettingsError(
                f"{place}: the token needs {_LENGTHS[0]} to {_LENGTHS[-1]} letters, digits or "
                ". _ ~ + / -, with = only at its end"
            )
        if token in (*tokens.values(), *others):
            raise SettingsError(f"{place}: the token is there twice; each needs its own")
        if name in tokens:
            others.append(token)
        else:
            tokens[name] = token
    if not tokens:
        raise SettingsError(f"the token file {path} has no token")
    return Tokens(**tokens, others=tuple(others))


def warning(path: Path) -> str | None:
    """What is wrong with a token file's mode; None if only its owner can read it."""
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"warning: other users of this machine may read {path}; use chmod 600"
    return None


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_exposed(settings: Settings, tokens: Tokens) -> bool:
    """Whether other machines can load models, and so code, without a token."""
    return settings.multi_model and not is_loopback(settings.host) and not tokens.management


def check_exposure(settings: Settings) -> None:
    """Check that models can be loaded from other machines only with a token.

    SageMaker's own calls have none, so this is for commands of people.

    Raises:
        SettingsError: the management API is on a public port, and needs no token.
    """
    tokens = read_tokens(Path(settings.token_file)) if settings.token_file else Tokens()
    if is_exposed(settings, tokens):
        raise SettingsError(
            f"in multi-model mode, everyone who reaches {settings.host}:{settings.port} could load "
            "code into this server: set MMS_HANDLER_TOKEN_FILE to a file with a line "
            '"management TOKEN", or --host 127.0.0.1'
        )


def exposure_warning(settings: Settings, tokens: Tokens) -> str | None:
    """The line for the log of a server that is exposed, as SageMaker needs it; None if it is not.

    Nothing shows whether SageMaker has started the container (docs/decisions.md).
    """
    if not is_exposed(settings, tokens):
        return None
    return (
        f"warning: everyone who reaches {settings.host}:{settings.port} can load code into this "
        "server; outside SageMaker, set MMS_HANDLER_TOKEN_FILE to a file with a line "
        '"management TOKEN"'
    )


class Access:
    """The check of each management request."""

    def __init__(self, token: str, hosts: Sequence[str], *, any_public_host: bool) -> None:
        """Let a request in that has the token.

        Args:
            token: "" for none.
            hosts: names, besides localhost, that may be in Host.
            any_public_host: whether requests through the public port may have any other name too,
                as in a container, which does not know its names.
        """
        self._digest = _digest(token) if token else b""
        self._hosts = {host.lower() for host in hosts}
        self._any_public_host = any_public_host

    @classmethod
    def by(cls, settings: Settings, tokens: Tokens) -> Access:
        """The access that settings and a token file give."""
        hosts = settings.allowed_hosts
        public = not hosts and not is_loopback(settings.host)
        return cls(tokens.management, hosts, any_public_host=public)

    def check(self, headers: Message) -> None:
        """Check the headers of a request.

        The gate forwards requests of the public port with their own Host and Origin in X-Forwarded-
        headers (java/mms_handler/Forward.java).

        Raises:
            Forbidden: it comes from another site's page, or has another server's name.
            Unauthorized: it needs a token and does not have it.
        """
        if headers.get("Origin") is not None or headers.get("X-Forwarded-Origin") is not None:
            raise Forbidden("the management API takes no requests from web pages: Origin is set")
        self.check_host(headers.get_all("Host", []))
        if not self._any_public_host:
            self.check_host(headers.get_all("X-Forwarded-Host", ["localhost"]))
        if self._digest and not self._has_token(headers.get_all("Authorization", [])):
            raise Unauthorized(
                "send the header Authorization: Bearer TOKEN, with the token for management of "
                "the server's token file"
            )

    def check_host(self, hosts: list[str]) -> None:
        """Check the Host headers of a request: one, with a name of this server.

        Raises:
            Forbidden: there is another one.
        """
        match = _HOST.fullmatch(hosts[0].strip()) if len(hosts) == 1 else None
        host = match[1].lower().rstrip(".") if match else ""
        if host not in self._hosts and not is_loopback(host.strip("[]")):
            raise Forbidden(
                "Host is not a name of this server: use localhost, or a name of "
                "MMS_HANDLER_ALLOWED_HOSTS"
            )

    def _has_token(self, values: list[str]) -> bool:
        scheme, _, token = values[0].strip().partition(" ") if len(values) == 1 else ("", "", "")
        digest = _digest(token.strip())
        return scheme.lower() == "bearer" and hmac.compare_digest(digest, self._digest)


def _digest(token: str) -> bytes:
    return hashlib.sha256(os.fsencode(token)).digest()
