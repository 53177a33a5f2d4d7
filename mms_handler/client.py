"""A client for MMS's inference and management APIs."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Mapping, NamedTuple, Sequence

from mms_handler.errors import ServerError

# The servers are local, so a proxy of the environment is not used.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class Answer(NamedTuple):
    """An HTTP response, whatever its status.

    Attributes:
        status: 100 to 599.
        headers: by lower-case name.
        body: as received.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        """The header of this name; "" if there is none."""
        return self.headers.get("content-type", "")

    def message(self) -> str:
        """The message of a failed request: MMS's, or else the whole body."""
        return self._field("message", self.body.decode("utf-8", "replace").strip())

    def error(self) -> str:
        """The name of the error of a failed request; "" if the body has none."""
        return self._field("type")

    def request_id(self) -> str:
        """The id of a request that failed in a worker, whose log has lines with it; else ""."""
        return self._field("request_id")

    def _field(self, name: str, default: str = "") -> str:
        try:
            return str(json.loads(self.body)[name])
        except (ValueError, KeyError, TypeError):
            return default


def call(
    method: str,
    url: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 60,
) -> Answer:
    """Make one HTTP request.

    Args:
        method: GET, POST, PUT or DELETE.
        url: http://host:port/path, or unix:SOCKET:/path for a server on a Unix socket.
        body: the request's body, if it has one.
        headers: Content-Type and others.
        timeout_s: seconds to wait for each part of the answer.

    Raises:
        ServerError: no answer came, or only a part of one.
    """
    if url.startswith("unix:"):
        return _call_socket(method, url, body, headers, timeout_s)
    try:
        request = urllib.request.Request(url, body, dict(headers or {}), method=method)
        try:
            response = _open(request, timeout=timeout_s)
        except urllib.error.HTTPError as error:  # it is the answer
            response = error
        with response:
            fields = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.code, fields, response.read())
    except (OSError, http.client.HTTPException, ValueError) as exc:
        reason = getattr(exc, "reason", None) or exc
        text = getattr(reason, "strerror", None) or reason
        raise ServerError(f"no answer from {url}: {text}") from exc


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _call_socket(
    method: str, url: str, body: bytes | None, headers: Mapping[str, str] | None, timeout_s: float
) -> Answer:
    path, _, rest = url[len("unix:") :].partition(":/")
    connection = _SocketConnection(path, timeout_s)
    try:
        connection.request(method, f"/{rest}", body, dict(headers or {}))
        response = connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, response.read())
    except (OSError, http.client.HTTPException) as exc:
        # The path is MMS's private one, and this may be told to a client.
        raise ServerError(f"no answer from MMS: {getattr(exc, 'strerror', None) or exc}") from exc
    finally:
        connection.close()


def invoke(
    url: str,
    body: bytes,
    content_type: str = "application/json",
    accept: str = "*/*",
    timeout_s: float = 60,
    token: str = "",
) -> Answer:
    """Send ``body`` to a model at ``url``: http://host:port/predictions/NAME, or /invocations."""
    headers = {"Content-Type": content_type, "Accept": accept, **_authorization(token)}
    return call("POST", url, body, headers, timeout_s)


def _authorization(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def listening(inference_url: str) -> bool:
    """Whether a front end answers.  Its models may not be loaded yet: MMS's ping is always 200."""
    try:
        return call("GET", f"{inference_url}/ping", timeout_s=2).status == 200
    except ServerError:
        return False


def why_not_ready(inference_url: str) -> str | None:
    """Why a server cannot answer requests for all its models yet; None if it can."""
    try:
        answer = call("GET", f"{inference_url}/ping", timeout_s=2)
    except ServerError as exc:
        return str(exc)
    return None if answer.status == 200 else f"{answer.status} {answer.message()}"


def why_model_not_ready(management_url: str, name: str, token: str = "") -> str | None:
    """Why a model cannot answer requests yet; None if one of its workers can."""
    try:
        answer = describe(management_url, name, token, timeout_s=10)
    except ServerError as exc:
        return str(exc)
    if answer.status != 200:
        return f"{answer.status} {answer.message()}"
    states = [worker["status"] for worker in description(answer)["workers"]]
    if "READY" in states:
        return None
    return f"its workers are {', '.join(states)}" if states else "it has no worker"


def register(
    management_url: str,
    name: str,
    archive: str,
    *,
    workers: int,
    batch_size: int,
    timeout_s: int,
) -> Answer:
    """Register a model.  The answer comes when all workers have loaded it, or one has failed.

    Args:
        management_url: http://host:port of the management API.
        name: the model's name.
        archive: its ``.mar``, relative to the model store.
        workers: worker processes, each with the model loaded.
        batch_size: the maximum batch size.
        timeout_s: for one batch, and for loading.  MMS reads it in seconds from the body, but in
            minutes from a query (RegisterModelRequest.java:43, 65-71).
    """
    fields = {
        "model_name": name,
        "url": archive,
        "initial_workers": workers,
        "synchronous": True,
        "batch_size": batch_size,
        "response_timeout": timeout_s,
        # Replaces the archive's own.  MMS looks for "python3", which its documentation uses, on the
        # PATH, and would start another Python than the server's (WorkerLifeCycle.java:124-128).
        "runtime": "python",
    }
    body, headers = json.dumps(fields).encode(), {"Content-Type": "application/json"}
    return call("POST", f"{management_url}/models", body, headers, _loading_s(workers, timeout_s))


def scale(management_url: str, name: str, workers: int, timeout_s: int) -> Answer:
    """Set a model's number of workers.  The answer comes as for ``register``."""
    url = f"{management_url}/models/{urllib.parse.quote(name)}"
    query = f"min_worker={workers}&max_worker={workers}&synchronous=true"
    return call("PUT", f"{url}?{query}", timeout_s=_loading_s(workers, timeout_s))


def _loading_s(workers: int, timeout_s: int) -> float:
    """Seconds to start and load workers.  MMS may take a minute to start one and two to connect."""
    return workers * (timeout_s + 180)


def unregister(management_url: str, name: str) -> Answer:
    """Unregister a model and end its workers."""
    return call("DELETE", f"{management_url}/models/{urllib.parse.quote(name)}", timeout_s=120)


def describe(management_url: str, name: str, token: str = "", timeout_s: float = 60) -> Answer:
    """Ask for a model's settings and workers; ``description`` reads the answer."""
    url = f"{management_url}/models/{urllib.parse.quote(name, safe='')}"
    return call("GET", url, headers=_authorization(token), timeout_s=timeout_s)


def manage(
    models_url: str,
    method: str,
    words: Sequence[str],
    fields: Mapping[str, Any],
    *,
    token: str = "",
    timeout_s: float = 60,
) -> Answer:
    """Ask a server's management API.

    Args:
        models_url: http://host:port/models.
        method: GET, POST, PUT or DELETE.
        words: the segments of the path after it.
        fields: of the request: in the body for POST, else in the query.
        token: if the server needs one.
        timeout_s: seconds to wait for the answer.
    """
    url = "/".join([models_url, *(urllib.parse.quote(word, safe="") for word in words)])
    headers, body = _authorization(token), None
    if method == "POST":
        headers["Content-Type"] = "application/json"
        body = json.dumps(dict(fields)).encode()
    elif fields:
        url += f"?{urllib.parse.urlencode(fields)}"
    return call(method, url, body, headers, timeout_s)


def description(answer: Answer) -> dict[str, Any]:
    """The fields of a good answer to ``describe``.  MMS's own is a list with one description."""
    descriptions = json.loads(answer.body)
    (fields,) = descriptions if isinstance(descriptions, list) else [descriptions]
    return dict(fields)
