"""The management API as MMS defines it and SageMaker calls it; ``admin_http`` has its port.

GET  /models               {"models": [{"modelName", "modelUrl", ...}], "nextPageToken"}
POST /models               {"url", "model_name", ...}   409 name taken, 404 no file, 507 no memory
GET, PUT, DELETE /models/NAME, /models/NAME/VERSION
PUT  /models/NAME/VERSION/set-default
POST /models/NAME/rollback
OPTIONS /                  the API's description (``openapi``)

MMS's own API is on a private socket, because it takes models from any address, unpacks them
unchecked, and answers before it has cleaned up.  Clients may compare MMS's texts, so these are its:
ManagementRequestHandler.java, ModelManager.java and ModelArchive.java.
"""

from __future__ import annotations

import contextlib
import reprlib
import urllib.parse
from typing import Any, ContextManager, Mapping, NamedTuple, Sequence

from mms_handler import names
from mms_handler.errors import BadInput, MethodNotAllowed, NoSuchModel
from mms_handler.server import openapi
from mms_handler.server.later import LaterChanges
from mms_handler.server.mms_models import Serving
from mms_handler.server.sources import Source, Sources
from mms_handler.server.versions import Versions

#: The largest number in a request.  MMS keeps it in an int.
_MAX_NUMBER = 2**31 - 1
_MAX_DIGITS = 10

#: Models in one page of the list, as in MMS.
_PAGE = 100

#: Serving's fields by MMS's names.  MMS reads response_timeout in seconds from a body, but in
#: minutes from a query; here it is in seconds in both.
_SERVING_FIELDS = {
    "initial_workers": "workers",
    "batch_size": "batch_size",
    "response_timeout": "timeout_s",
}

_MODEL = "/models/{model_name}"
_VERSION = f"{_MODEL}/{{model_version}}"
_ROLLBACK = f"{_MODEL}/rollback"
_SET_DEFAULT = f"{_VERSION}/set-default"

#: A request's fields, from its query and its body.
Fields = Mapping[str, Any]


class Reply(NamedTuple):
    """What is sent back: a status, the fields of the body, and for 405 the path's methods."""

    status: int
    fields: Fields
    methods: Sequence[str] = ()


_LATER = Reply(202, {"status": "Processing worker updates..."})


class Api:
    """The routes of the management API."""

    def __init__(
        self, versions: Versions, sources: Sources, defaults: Serving, later: LaterChanges
    ) -> None:
        """Answer for the models of ``versions``.

        Args:
            versions: the server's models.
            sources: the places from which registrations may take models.
            defaults: how a model is served unless its registration sets other values.
            later: carries out what is not synchronous.
        """
        self._versions, self._sources, self._defaults = versions, sources, defaults
        self._later = later

    def answer(self, method: str, path: str, fields: Fields) -> Reply:
        """Carry out a request, or begin to; returns the reply.

        Raises:
            HandlerError: the request fails; has the reply's status.
        """
        words = [urllib.parse.unquote(word) for word in path.strip("/").split("/")]
        route = _route(method, words)
        if not route:
            raise NoSuchModel("Requested resource is not found, please refer to API document.")
        if method not in openapi.METHODS[route]:
            raise MethodNotAllowed(
                "Requested method is not allowed, please refer to API document.",
                openapi.METHODS[route],
            )
        if method == "OPTIONS":
            return Reply(200, openapi.description())
        if route == "/models":
            return self._register(fields) if method == "POST" else self._list(fields)
        if route == _ROLLBACK:
            return _served(words[1], self._versions.roll_back(words[1]))
        name, version = words[1], words[2] if len(words) > 2 else ""
        if route == _SET_DEFAULT:
            self._versions.serve(name, version)
            return _served(name, version)
        if method == "PUT":
            return self._share(name, version, fields) or self._scale(name, version, fields)
        if method == "GET":
            return Reply(200, self._versions.describe(name, version))
        return self._unregister(name, version)

    def _unregister(self, name: str, version: str) -> Reply:
        if version:
            self._versions.unload(name, version)
            return Reply(200, {"status": f'Version "{version}" of model "{name}" unregistered'})
        self._versions.unregister(name)
        return Reply(200, {"status": f'Model "{name}" unregistered'})

    def _share(self, name: str, version: str, fields: Fields) -> Reply | None:
        """Set a version's share of the requests; None if that is not what is asked for."""
        share = _share(fields) if version else None
        if share is None:
            return None
        self._versions.share(name, version, share)
        status = f'Version "{version}" of model "{name}" gets {share} percent of the requests'
        return Reply(200, {"status": status})

    def _scale(self, name: str, version: str, fields: Fields) -> Reply:
        min_workers = _number(fields, "min_worker", 1)
        max_workers = _number(fields, "max_worker", min_workers)
        if max_workers < min_workers:
            raise BadInput("max_worker cannot be less than min_worker.")
        if not max_workers:  # MMS would end the listener, and start no other one later
            raise BadInput("no worker would be left: ask for 1 or more, or unregister the model")

        def scale() -> None:
            self._versions.scale(name, min_workers, max_workers, version)

        if not _is_true(fields, "synchronous", True):  # MMS's default is false
            self._versions.find(name, version)
            self._later.start(f"scaling {name}", scale)
            return _LATER
        scale()
        return Reply(200, {"status": "Workers scaled"})

    def _list(self, fields: Fields) -> Reply:
        models = self._versions.list()
        start = _number(fields, "next_page_token", 0)
        end = start + min(_number(fields, "limit", _PAGE), _PAGE)
        more = {"nextPageToken": str(end)} if end < len(models) else {}
        return Reply(200, {"models": models[start:end], **more})

    def _register(self, fields: Fields) -> Reply:
        name, url = _text(fields, "model_name"), _text(fields, "url")
        if not url:
            raise BadInput("Parameter url is required.")
        runtime = _text(fields, "runtime") or "python"
        if runtime not in openapi.RUNTIMES:
            raise BadInput(f"Invalid RuntimeType value: {reprlib.repr(runtime)[1:-1]}")
        version, share = _text(fields, "version"), _share(fields)
        if version:
            names.check_version(version)
        replace = _is_true(fields, "replace", False)
        if share is not None and not replace:
            raise BadInput("share is for a version that replaces another: add replace=true")
        self._serving(fields, None)  # what is wrong with the numbers is said first
        later = not _is_true(fields, "synchronous", True)
        with contextlib.ExitStack() as held:
            if name:  # before anything is fetched
                held.enter_context(self._versions.reserved(name, url, replace))
            opened: ContextManager[Source] = self._sources.open(name, url)
            if not (later and name and self._sources.fetches(url)):
                opened = contextlib.nullcontext(held.enter_context(opened))
            if not name:
                with opened as source:
                    name = source.name
                held.enter_context(self._versions.reserved(name, url, replace))
            serving = self._serving(fields, self._versions.serving(name))

            def load() -> str:
                with opened as source:
                    return self._versions.load(source, serving, version, share)

            if later and serving.workers:
                self._later.start(f"registering {name}", load, held)
                return _LATER
            loaded = load()
        scaled = _number(fields, "initial_workers", 0)
        status = "Workers scaled" if scaled else f'Model "{name}" registered'
        return Reply(200, {"status": status, **({"modelVersion": loaded} if replace else {})})

    def _serving(self, fields: Fields, served: Serving | None) -> Serving:
        """How a version is to be served: by default as the one that it replaces, if it does."""
        numbers = {field: _number(fields, key, 0) for key, field in _SERVING_FIELDS.items()}
        defaults = served or self._defaults
        serving = defaults._replace(**{field: n for field, n in numbers.items() if n})
        if "initial_workers" in fields:
            serving = serving._replace(workers=numbers["workers"])
        if serving.timeout_s > self._defaults.timeout_s:  # workers only know the default
            raise BadInput(
                f"response_timeout: {serving.timeout_s} s is too long; the limit is "
                f"{self._defaults.timeout_s} s, set by SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS"
            )
        if served and not serving.workers:
            raise BadInput("a version that replaces another needs a worker: set initial_workers")
        return serving


def _route(method: str, words: Sequence[str]) -> str | None:
    """The path of the description that a request's segments are for; None if none is."""
    if words == [""]:
        return "/"
    if words[0] != "models" or len(words) > 4:
        return None
    if len(words) == 4:
        return _SET_DEFAULT if words[3] == "set-default" else None
    if len(words) == 3 and words[2] == "rollback" and method == "POST":
        return _ROLLBACK
    return ("/models", _MODEL, _VERSION)[len(words) - 1]


def _served(name: str, version: str) -> Reply:
    return Reply(200, {"status": f'Version "{version}" of model "{name}" is served'})


def _share(fields: Fields) -> int | None:
    """The percentage in a request; None if it has none."""
    if fields.get("share") is None:
        return None
    share = _number(fields, "share", 0)
    if share > 100:
        raise BadInput(f"share: {share} is more than 100 percent")
    return share


def _text(fields: Fields, key: str) -> str:
    value = fields.get(key, "")
    if not isinstance(value, str):
        raise BadInput(f"{key}: {reprlib.repr(value)} is not a text")
    return value


def _is_true(fields: Fields, key: str, default: bool) -> bool:
    value = str(fields.get(key, default)).lower()
    if value not in ("true", "false"):
        raise BadInput(f"{key}: {reprlib.repr(fields[key])} is not true or false")
    return value == "true"


def _number(fields: Fields, key: str, default: int) -> int:
    value = fields.get(key, default)
    # The length is checked first: int() refuses 5,000 digits, or takes long for them.
    if isinstance(value, str) and len(value) <= _MAX_DIGITS and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_NUMBER:
        raise BadInput(
            f"{key}: {reprlib.repr(value)} is not a whole number from 0 to {_MAX_NUMBER}"
        )
    return value
