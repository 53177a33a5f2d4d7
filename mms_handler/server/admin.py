"""The management API as MMS defines it and SageMaker calls it; ``admin_http`` has its port.

GET  /models               {"models": [{"modelName", "modelUrl"}], "nextPageToken"}
POST /models               {"url", "model_name", ...}   409 name taken, 404 no file, 507 no memory
GET, PUT, DELETE /models/NAME
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

from mms_handler.errors import BadInput, MethodNotAllowed, NoSuchModel
from mms_handler.server import openapi
from mms_handler.server.later import LaterChanges
from mms_handler.server.mms_models import Serving
from mms_handler.server.registry import Registry
from mms_handler.server.sources import Source, Sources

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
    "max_batch_delay": "max_batch_delay_ms",
    "response_timeout": "timeout_s",
}

#: Paths of the description by their first segment and the number of segments.
_ROUTES = {("", 1): "/", ("models", 1): "/models", ("models", 2): "/models/{model_name}"}

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
        self, registry: Registry, sources: Sources, defaults: Serving, later: LaterChanges
    ) -> None:
        """Answer for the models of ``registry``.

        Args:
            registry: the server's models.
            sources: the places from which registrations may take models.
            defaults: how a model is served unless its registration sets other values.
            later: carries out what is not synchronous.
        """
        self._registry, self._sources, self._defaults = registry, sources, defaults
        self._later = later

    def answer(self, method: str, path: str, fields: Fields) -> Reply:
        """Carry out a request, or begin to; returns the reply.

        Raises:
            HandlerError: the request fails; has the reply's status.
        """
        words = [urllib.parse.unquote(word) for word in path.strip("/").split("/")]
        route = _ROUTES.get((words[0], len(words)))
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
        return self._answer_model(method, words[1], fields)

    def _answer_model(self, method: str, name: str, fields: Fields) -> Reply:
        if method == "PUT":
            return self._scale(name, fields)
        if method == "GET":
            return Reply(200, self._registry.describe(name))
        self._registry.unregister(name)
        return Reply(200, {"status": f'Model "{name}" unregistered'})

    def _scale(self, name: str, fields: Fields) -> Reply:
        min_workers = _number(fields, "min_worker", 1)
        max_workers = _number(fields, "max_worker", min_workers)
        if max_workers < min_workers:
            raise BadInput("max_worker cannot be less than min_worker.")
        if not max_workers:  # MMS would end the listener, and start no other one later
            raise BadInput("no worker would be left: ask for 1 or more, or unregister the model")

        def scale() -> None:
            self._registry.scale(name, min_workers, max_workers)

        if _is_later(fields):
            self._registry.model(name)
            self._later.start(f"scaling {name}", scale)
            return _LATER
        scale()
        return Reply(200, {"status": "Workers scaled"})

    def _list(self, fields: Fields) -> Reply:
        models = sorted(self._registry.models().items())
        start = _number(fields, "next_page_token", 0)
        end = start + min(_number(fields, "limit", _PAGE), _PAGE)
        page = [{"modelName": name, "modelUrl": model.url} for name, model in models[start:end]]
        more = {"nextPageToken": str(end)} if end < len(models) else {}
        return Reply(200, {"models": page, **more})

    def _register(self, fields: Fields) -> Reply:
        name, url = _text(fields, "model_name"), _text(fields, "url")
        if not url:
            raise BadInput("Parameter url is required.")
        runtime = _text(fields, "runtime") or "python"
        if runtime not in openapi.RUNTIMES:
            raise BadInput(f"Invalid RuntimeType value: {reprlib.repr(runtime)[1:-1]}")
        numbers = {field: _number(fields, key, 0) for key, field in _SERVING_FIELDS.items()}
        serving = self._defaults._replace(**{field: n for field, n in numbers.items() if n})
        if "initial_workers" in fields:
            serving = serving._replace(workers=numbers["workers"])
        if serving.timeout_s > self._defaults.timeout_s:  # workers only know the default
            raise BadInput(
                f"response_timeout: {serving.timeout_s} s is too long; the limit is "
                f"{self._defaults.timeout_s} s, set by SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS"
            )
        later = _is_later(fields)
        with contextlib.ExitStack() as held:
            if name:  # before anything is fetched
                held.enter_context(self._registry.reserved(name, url))
            opened: ContextManager[Source] = self._sources.open(name, url)
            if not (later and name and self._sources.fetches(url)):
                opened = contextlib.nullcontext(held.enter_context(opened))
            if not name:
                with opened as source:
                    name = source.name
                held.enter_context(self._registry.reserved(name, url))

            def load() -> None:
                with opened as source:
                    self._registry.load(source, serving)

            if later and serving.workers:
                self._later.start(f"registering {name}", load, held)
                return _LATER
            load()
        registered = f'Model "{name}" registered'
        return Reply(200, {"status": "Workers scaled" if numbers["workers"] else registered})


def _text(fields: Fields, key: str) -> str:
    value = fields.get(key, "")
    if not isinstance(value, str):
        raise BadInput(f"{key}: {reprlib.repr(value)} is not a text")
    return value


def _is_later(fields: Fields) -> bool:
    """Whether a request is not synchronous.  It is unless it says otherwise; MMS's are not."""
    value = str(fields.get("synchronous", True)).lower()
    if value not in ("true", "false"):
        raise BadInput(f"synchronous: {reprlib.repr(fields['synchronous'])} is not true or false")
    return value == "false"


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
