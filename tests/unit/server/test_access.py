"""access: token files, and which management requests get in."""

from __future__ import annotations

import contextlib
import json

import pytest

from mms_handler import client
from mms_handler.errors import SettingsError
from mms_handler.server import access, admin, admin_http
from mms_handler.server.access import Access, Tokens, read_tokens
from mms_handler.settings import Settings

TOKEN = "Zr3_-~.+/aB0123456789=="


# --- the file ---


def test_a_token_file(tmp_path):
    """Comments, blank lines and blanks are ignored; the gate gets bare lines."""
    path = tmp_path / "tokens"
    path.write_text(f"# mine\n\n  inference   {TOKEN} \nmanagement {'m' * 16}\n")
    tokens = read_tokens(path)
    assert tokens == Tokens(TOKEN, "m" * 16)
    assert tokens.text() == f"inference {TOKEN}\nmanagement {'m' * 16}\n"
    path.write_text(f"management {TOKEN}\n")
    assert read_tokens(path).text() == f"management {TOKEN}\n"


def test_a_token_for_each_client(tmp_path):
    """The first one is what this machine's own commands send."""
    path = tmp_path / "tokens"
    path.write_text(f"inference {TOKEN}\ninference {'a' * 16}\ninference {'b' * 16}\n")
    tokens = read_tokens(path)
    assert tokens == Tokens(TOKEN, "", ("a" * 16, "b" * 16))
    lines = [TOKEN, "a" * 16, "b" * 16]
    assert tokens.text() == "".join(f"inference {token}\n" for token in lines)


INVALID = "the token needs 16 to 512 letters, digits or . _ ~ + / -, with = only at its end"
EXPECTED = "expected inference TOKEN, of each client, or management TOKEN, once"
TWICE = "the token is there twice; each needs its own"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", " has no token", id="empty"),
        pytest.param("# nothing\n", " has no token", id="a comment"),
        pytest.param("inference\n", f", line 1: {INVALID}", id="no token"),
        pytest.param("\ninference secret-15-chars\n", f", line 2: {INVALID}", id="too short"),
        pytest.param(f"inference {'s' * 513}\n", f", line 1: {INVALID}", id="too long"),
        pytest.param("inference secret=secret=secret\n", f", line 1: {INVALID}", id="= within"),
        pytest.param("inference secret secret secret\n", f", line 1: {INVALID}", id="blanks"),
        pytest.param(f"other {'s' * 16}\n", f", line 1: {EXPECTED}", id="another name"),
        pytest.param(f"inference {'s' * 16}\n" * 2, f", line 2: {TWICE}", id="one token twice"),
        pytest.param(
            f"inference {'s' * 16}\nmanagement {'s' * 16}\n",
            f", line 2: {TWICE}",
            id="one token for both",
        ),
        pytest.param(
            f"management {'s' * 16}\nmanagement {'t' * 16}\n", f", line 2: {EXPECTED}", id="twice"
        ),
        pytest.param("inference s\u00e9cret" * 9, " cannot be read: it is not ASCII", id="letters"),
        pytest.param(None, " cannot be read: No such file or directory", id="no file"),
    ],
)
def test_an_invalid_token_file(tmp_path, text, reason):
    """The message has the file and the line, and no part of a token."""
    path = tmp_path / "tokens"
    if text is not None:
        path.write_text(text, "utf-8")
    with pytest.raises(SettingsError) as caught:
        read_tokens(path)
    assert str(caught.value) == f"the token file {path}{reason}"


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, True), (0o604, True)])
def test_a_token_file_that_others_can_read(tmp_path, mode, warned):
    """It is a warning: a container's secrets may be mounted so."""
    path = tmp_path / "tokens"
    path.touch(mode)
    path.chmod(mode)
    text = f"warning: other users of this machine may read {path}; use chmod 600"
    assert access.warning(path) == (text if warned else None)


# --- requests ---

REFUSED_HOST = "Host is not a name of this server: use localhost, or a name of "
REFUSED_HOST += "MMS_HANDLER_ALLOWED_HOSTS"


class Routes:
    """Answers every request that gets in."""

    def answer(self, method, path, fields):
        return admin.Reply(200, {"path": path})


@contextlib.contextmanager
def api(access):
    with admin_http.listening(Routes(), access, 0) as port:

        def ask(**headers):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            answer = client.call("POST", f"http://127.0.0.1:{port}/models", b"{}", named)
            return answer.status, json.loads(answer.body).get("message"), answer.headers

        yield ask


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 200, id="a program"),
        pytest.param({"Host": "localhost:8081"}, 200, id="localhost"),
        pytest.param({"Host": "LOCALHOST."}, 200, id="localhost, spelled otherwise"),
        pytest.param({"Host": "[::1]:8081"}, 200, id="IPv6"),
        pytest.param({"Host": "127.0.0.2"}, 200, id="another address of this machine"),
        pytest.param({"Host": "192.0.2.1"}, 403, id="another machine's address"),
        pytest.param({"Host": "gpu7.example.org:80"}, 200, id="an allowed name"),
        pytest.param({"Host": "evil.example"}, 403, id="another name"),
        pytest.param({"Host": "evil.example:8081"}, 403, id="another name, with the port"),
        pytest.param({"Host": "localhost.evil.example"}, 403, id="a name that begins alike"),
        pytest.param({"Host": "127.0.0.1.evil.example"}, 403, id="an address that begins alike"),
        pytest.param({"Host": "localhost@evil.example"}, 403, id="a user"),
        pytest.param({"Host": ""}, 403, id="no name"),
        pytest.param({"X_Forwarded_Host": "localhost:8080"}, 200, id="through the gate"),
        pytest.param({"X_Forwarded_Host": "evil.example"}, 403, id="another, through the gate"),
        pytest.param({"Origin": "http://evil.example"}, 403, id="a page"),
        pytest.param({"Origin": "null"}, 403, id="a page without an address"),
        pytest.param({"Origin": "http://localhost:8081"}, 403, id="a page of this machine"),
        pytest.param({"X_Forwarded_Origin": "null"}, 403, id="a page, through the gate"),
    ],
)
def test_pages_of_other_sites(headers, status):
    """A browser sends their name in Origin or Host; a program sends neither."""
    with api(Access("", ["GPU7.example.org"], any_public_host=False)) as ask:
        answer_status, message, _ = ask(**headers)
        assert answer_status == status
        if status == 403:
            origin = "the management API takes no requests from web pages: Origin is set"
            assert message == (origin if any("Origin" in key for key in headers) else REFUSED_HOST)


def test_a_container_does_not_know_its_names():
    """On a public address any name leads to the gate; the private port stays local."""
    with api(Access("", (), any_public_host=True)) as ask:
        assert ask(X_Forwarded_Host="model.example")[0] == 200
        assert ask(Host="model.example")[0] == 403
        assert ask(X_Forwarded_Host="model.example", X_Forwarded_Origin="null")[0] == 403


@pytest.mark.parametrize(
    ("host", "allowed", "status"),
    [
        ("127.0.0.1", (), 403),
        ("::1", (), 403),
        ("localhost", (), 403),
        ("0.0.0.0", (), 200),
        ("0.0.0.0", ("model.example",), 200),
        ("0.0.0.0", ("other.example",), 403),
    ],
)
def test_names_by_settings(host, allowed, status):
    """Names are checked where the server is local, or where some are allowed."""
    settings = Settings(host=host, allowed_hosts=allowed)
    with api(Access.by(settings, Tokens())) as ask:
        assert ask(X_Forwarded_Host="model.example")[0] == status


@pytest.mark.parametrize(
    ("value", "status"),
    [
        pytest.param(f"Bearer {TOKEN}", 200, id="right"),
        pytest.param(f"bearer  {TOKEN} ", 200, id="spelled otherwise"),
        pytest.param(None, 401, id="none"),
        pytest.param(f"Bearer {TOKEN}x", 401, id="longer"),
        pytest.param(f"Bearer {TOKEN[:-1]}", 401, id="shorter"),
        pytest.param("Bearer ", 401, id="empty"),
        pytest.param(f"Basic {TOKEN}", 401, id="another scheme"),
        pytest.param(TOKEN, 401, id="no scheme"),
        pytest.param(f"Bearer {'i' * 16}", 401, id="that for inference"),
        pytest.param("Bearer \u00e9\u00e9", 401, id="letters"),
    ],
)
def test_the_token_for_management(value, status, caplog):
    """The refusal says how to send it, and nothing that was sent is repeated or logged."""
    tokens = Tokens(inference="i" * 16, management=TOKEN)
    with api(Access.by(Settings(), tokens)) as ask:
        answer_status, message, headers = ask(**({"Authorization": value} if value else {}))
    assert answer_status == status
    if status == 401:
        assert headers["www-authenticate"] == 'Bearer realm="mms_handler"'
        assert message == (
            "send the header Authorization: Bearer TOKEN, with the token for management of the "
            "server's token file"
        )
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("settings", "exposed"),
    [
        pytest.param({"multi_model": True}, False, id="this machine"),
        pytest.param({"host": "0.0.0.0"}, False, id="without the management API"),
        pytest.param({"multi_model": True, "host": "0.0.0.0"}, True, id="every address"),
        pytest.param({"multi_model": True, "host": "192.0.2.1"}, True, id="one address"),
    ],
)
def test_a_public_management_api_needs_a_token(tmp_path, settings, exposed):
    """Whoever can register a model can run code."""
    path = tmp_path / "tokens"
    for text in (None, f"inference {TOKEN}\n", f"management {TOKEN}\n"):
        if text:
            path.write_text(text)
        refused = exposed and "management" not in (text or "")
        message = f"everyone who reaches {settings.get('host')}:8080 could load code"
        with pytest.raises(SettingsError, match=message) if refused else contextlib.nullcontext():
            access.check_exposure(Settings(**settings, token_file=str(path) if text else None))
        tokens = access.read_tokens(path) if text else access.Tokens()
        warning = access.exposure_warning(Settings(**settings), tokens)
        assert (warning is not None) is refused
