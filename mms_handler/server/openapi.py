"""The management API as OpenAPI 3.0.1 describes it: what OPTIONS / answers."""

from __future__ import annotations

import re
from typing import Any, Mapping, NamedTuple, Sequence

from mms_handler import __version__

_ERRORS = {
    400: "A field is missing or invalid, or the model is not safe or broken",
    401: "The token is missing or wrong",
    403: "The request comes from another site's page or names another host, or no trusted key "
    "signed the archive",
    404: "There is no such model or version, or nothing at the url",
    405: "The path has other methods: see Allow",
    409: "The name is taken, the model is being changed, or its versions do not allow it",
    500: "It failed: the message says why, or the server's log does",
    503: "The model is being registered or loaded again, or too many changes are under way",
    507: "The memory or the disk is not enough; nothing has changed",
}


class _Operation(NamedTuple):
    """What one method of a path does.

    Fields:
        name: the operation's id, as MMS calls it.
        description: what it does.
        replies: descriptions of the replies that are no errors, by status.
        errors: statuses.
        parameters: types and descriptions of the fields in the query, by name.
        in_body: whether the fields may be in a JSON object instead.
    """

    name: str
    description: str
    replies: Mapping[int, str]
    errors: Sequence[int] = ()
    parameters: Mapping[str, tuple[str, str]] = {}
    in_body: bool = False


#: MMS's names of runtimes.
RUNTIMES = ("python", "python2", "python3")

_VERSION = "/models/{model_name}/{model_version}"

_SYNCHRONOUS = ("boolean", "false: answer 202 at once, and do it afterwards; default: true")

_WORKERS = {
    "min_worker": ("integer", "It gets no fewer; default: 1"),
    "max_worker": ("integer", "It keeps no more; default: min_worker"),
    "synchronous": _SYNCHRONOUS,
}

_OPERATIONS: dict[str, dict[str, _Operation]] = {
    "/": {"OPTIONS": _Operation("apiDescription", "Describe this API.", {200: "OpenAPI 3.0.1"})},
    "/models": {
        "GET": _Operation(
            "listModels",
            "List the registered models.",
            {200: "The models, sorted by name, and a token if there are more"},
            [400],
            {
                "limit": ("integer", "The most models that are listed; default and maximum: 100"),
                "next_page_token": ("string", "The token of the previous page"),
            },
        ),
        "POST": _Operation(
            "registerModel",
            "Register a model, and load it.",
            {200: "The model is registered and loaded", 202: "It is being loaded"},
            [400, 404, 409, 500, 503, 507],
            {
                "url": ("string", "A path in the model store, or an allowed address"),
                "model_name": ("string", "Default: the manifest's, or the file's or folder's"),
                "runtime": ("string", f"{', '.join(RUNTIMES)}: all stand for the server's Python"),
                "initial_workers": ("integer", "Default: --workers, or 1; 0: nothing is loaded"),
                "batch_size": ("integer", "The most requests that a worker gets together"),
                "response_timeout": ("integer", "Seconds that a batch or a load may take"),
                "version": ("string", "Default: the manifest's, or the next number"),
                "replace": ("boolean", "true: serve it in place of the version that is served"),
                "share": ("integer", "With replace: the percentage of the requests that it gets"),
                "synchronous": _SYNCHRONOUS,
            },
            in_body=True,
        ),
    },
    "/models/{model_name}": {
        "GET": _Operation(
            "describeModel",
            "Describe a model as it is served, and its versions.",
            {200: "The model"},
            [404],
        ),
        "PUT": _Operation(
            "setAutoScale",
            "Set the number of workers of the version that is served.",
            {200: "It has this number of workers", 202: "The workers are being changed"},
            [400, 404, 500, 503, 507],
            _WORKERS,
            in_body=True,
        ),
        "DELETE": _Operation(
            "unregisterModel",
            "Unregister a model; its processes and files are gone then.",
            {200: "The model is unregistered"},
            [404, 500, 503],
        ),
    },
    "/models/{model_name}/rollback": {
        "POST": _Operation(
            "rollBack",
            "Serve the version again that was served before.",
            {200: "It is served"},
            [404, 409, 503],
        ),
    },
    _VERSION: {
        "GET": _Operation(
            "describeVersion", "Describe a version and its workers.", {200: "The version"}, [404]
        ),
        "PUT": _Operation(
            "changeVersion",
            "Set the share of the requests that a version gets, or the number of its workers.",
            {200: "It is set", 202: "The workers are being changed"},
            [400, 404, 409, 500, 503, 507],
            {"share": ("integer", "Percent; 0: none, but it is kept"), **_WORKERS},
            in_body=True,
        ),
        "DELETE": _Operation(
            "unregisterVersion",
            "Unregister a version that is not served, or the only one.",
            {200: "The version is unregistered"},
            [404, 409, 500, 503],
        ),
    },
    f"{_VERSION}/set-default": {
        "PUT": _Operation(
            "setDefault",
            "Serve a version; the one that is served is kept.",
            {200: "It is served"},
            [404, 409, 503],
        ),
    },
}

#: The methods of each path.
METHODS = {path: list(operations) for path, operations in _OPERATIONS.items()}


def description() -> dict[str, Any]:
    """The whole API."""
    return {
        "openapi": "3.0.1",
        "info": {"title": "Management API of mms_handler", "version": __version__},
        "paths": {
            path: {method.lower(): _operation(path, each) for method, each in operations.items()}
            for path, operations in _OPERATIONS.items()
        },
    }


def _operation(path: str, operation: _Operation) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"in": "query", "name": name, "description": text, "schema": {"type": kind}}
        for name, (kind, text) in operation.parameters.items()
    ]
    in_path = {"in": "path", "required": True, "schema": {"type": "string"}}
    parameters[:0] = [{**in_path, "name": name} for name in re.findall("{(.*?)}", path)]
    errors = {status: _ERRORS[status] for status in sorted([*operation.errors, 401, 403])}
    described = {
        "operationId": operation.name,
        "description": operation.description,
        "parameters": parameters,
        "responses": {
            **{str(status): _response(text) for status, text in operation.replies.items()},
            **{str(s): _response(text, "code", "type", "message") for s, text in errors.items()},
        },
    }
    if operation.in_body:
        fields = {
            name: {"type": kind, "description": text}
            for name, (kind, text) in operation.parameters.items()
        }
        described["requestBody"] = {"content": _json({"type": "object", "properties": fields})}
    return described


def _response(text: str, *required: str) -> dict[str, Any]:
    schema = {"type": "object", **({"required": required} if required else {})}
    return {"description": text, "content": _json(schema)}


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
