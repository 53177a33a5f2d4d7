"""The requests of MMS's own test of its server, in their order: what MMS answers, and what we do.

Written anew from the facts of ModelServerTest.java (awslabs/multi-model-server).  Where the answers
differ the row has ours, and a reason that docs/models.md has, too.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Union
from urllib.parse import parse_qs, urlsplit

import pytest
from running_mms import ROOT, Serving, free_ports, wait_for

from mms_handler import client

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
BINARY = {"Content-Type": "application/octet-stream"}
MULTIPART = {"Content-Type": "multipart/form-data; boundary=cut"}
DATA = (
    b'--cut\r\nContent-Disposition: form-data; name="data"; filename="test.txt"\r\n'
    b"Content-Type: text/plain\r\n\r\ntest\r\n--cut--\r\n"
)
NAME = b'--cut\r\nContent-Disposition: form-data; name="model_name"\r\n\r\nnoop_v0.1\r\n' + DATA

#: A handler for each folder of the model store; MMS's own have the same behaviour.
HANDLERS = {
    "noop-v0.1": "return ['OK'] * len(data or [])",
    "noop-v1.0": "return ['OK'] * len(data or [])",
    "noop-v1.0-config-tests": "return [str(data)] * len(data or [])",
    "respheader-test": """
    if data:
        context.set_response_content_type(0, "text/plain")
        context.set_response_header(0, "dummy", "1")
    return [str(data)] * len(data or [])
""",
    "noop-no-manifest": "return ['OK'] * len(data or [])",
    "logging": """
    import os
    print("inference [PID]:", os.getpid())
    return ['OK'] * len(data or [])
""",
    "loading-memory-error": "raise MemoryError('at load')",
    "prediction-memory-error": """
    if data:
        raise MemoryError("at a prediction")
""",
    "custom-return-code": """
    from mms.service import PredictionException
    if data:
        raise PredictionException("Some Prediction Error", 599)
""",
    "error_batch": """
    if data:
        context.set_response_status(code=507, idx=0)
    return ["Invalid response"]
""",
    "init-error": "raise RuntimeError('at load')",
    "invalid": "return 'Invalid response'",
}

NOT_ALLOWED = "Requested method is not allowed, please refer to API document."
NOT_FOUND = "Requested resource is not found, please refer to API document."
REGISTERED = 'Model "{}" registered'.format
UNREGISTERED = 'Model "{}" unregistered'.format
PROCESSING = "Processing worker updates..."
LOAD = "&initial_workers=1&synchronous=true"

#: Before these, MMS's test sets decode_input_request=false.  Here a second server has it.
UNDECODED = {"PredictionsDoNotDecodeRequest", "PredictionsModifyResponseHeader"}

#: What a body's text is: exactly, or what must be true of it.  None: MMS's test does not look.
Text = Union[str, Callable[[Any], bool], None]


class Row(NamedTuple):
    """A request, MMS's answer, and ours with the reason where it is another one."""

    test: str
    port: str
    method: str
    path: str
    mms: tuple[int, Text]
    ours: tuple[int, Text] | None = None
    reason: str = ""
    body: bytes = b""
    headers: Mapping[str, str] = {}


def has(word: str) -> Callable[[Any], bool]:
    return lambda text: word in text


def lacks(word: str) -> Callable[[Any], bool]:
    return lambda text: word not in text


def paths(*names: str) -> Callable[[Any], bool]:
    return lambda text: sorted(json.loads(text)["paths"]) == sorted(names)


INFERENCE = paths(
    "/",
    "/{model_name}/predict",
    "/ping",
    "/predictions/{model_name}",
    "/api-description",
    "/invocations",
    "/models/{model_name}/invoke",
)
ASKS_BY_DEFAULT = "changes are answered when they are done, unless `synchronous=false`"
LOADS_BY_DEFAULT = "a registration without `initial_workers` loads the model"
STRICT_JSON = "JSON has double quotes"
ROOT_PATH = "`GET /` says what there is"
STARTUP = "a model that `serve` was started with counts again when it is registered again"
MANIFEST = "a folder without a manifest has a script of SageMaker's"
ADDRESSES = "only addresses of `MMS_HANDLER_ALLOWED_URLS` are fetched"
GONE = "`DELETE` answers when the processes are gone, and has no time limit of its own"
VERSIONS = "models have versions"
REASONS = "a failed load says why"

JSON_BODY = b'{"data": "test"}'
SINGLE = (
    b"{'url':'noop-v0.1', 'model_name':'noop_v0.1', 'initial_workers':'1', 'synchronous':'true'}"
)

DELETE_NOOP = Row(
    "UnregisterModel", "m", "DELETE", "/models/noop_v0.1", (200, UNREGISTERED("noop_v0.1"))
)
REGISTER_NOOP = Row(
    "RegisterModelConflict",
    "m",
    "POST",
    "/models?url=noop-v0.1&model_name=noop_v0.1&runtime=python&synchronous=false",
    (409, "Model noop_v0.1 is already registered."),
)


def predict(test: str, path: str, status: int, text: Text, body: bytes, headers, **more) -> Row:
    return Row(test, "i", "POST", path, (status, text), body=body, headers=headers, **more)


def load(test: str, folder: str, name: str, status: int = 200, **more) -> Row:
    text = "Workers scaled" if status == 200 else None
    path = f"/models?url={folder}&model_name={name}{LOAD}"
    return Row(test, "m", "POST", path, (status, text), **more)


def unload(test: str, name: str, **more) -> Row:
    return Row(test, "m", "DELETE", f"/models/{name}", (200, UNREGISTERED(name)), **more)


ROWS = [
    Row("Ping", "i", "GET", "/ping", (200, "Healthy")),
    Row("Root", "i", "OPTIONS", "/", (200, INFERENCE)),
    Row(
        "Root",
        "m",
        "OPTIONS",
        "/",
        (200, paths("/", "/models", "/models/{model_name}")),
        (
            200,
            paths(
                "/",
                "/models",
                "/models/{model_name}",
                "/models/{model_name}/rollback",
                "/models/{model_name}/{model_version}",
                "/models/{model_name}/{model_version}/set-default",
            ),
        ),
        VERSIONS,
    ),
    Row("ApiDescription", "i", "GET", "/api-description", (200, INFERENCE)),
    Row("DescribeApi", "i", "OPTIONS", "/predictions/noop_v0.1", (200, has("API for: noop_v0.1"))),
    DELETE_NOOP,
    REGISTER_NOOP._replace(
        test="LoadModel",
        mms=(200, REGISTERED("noop_v0.1")),
        ours=(202, PROCESSING),
        reason=LOADS_BY_DEFAULT,
    ),
    Row(
        "SyncScaleModel",
        "m",
        "PUT",
        "/models/noop_v0.1?synchronous=true&min_worker=1",
        (200, "Workers scaled"),
    ),
    Row(
        "ScaleModel",
        "m",
        "PUT",
        "/models/noop_v0.1?min_worker=2",
        (202, PROCESSING),
        (200, "Workers scaled"),
        ASKS_BY_DEFAULT,
    ),
    Row(
        "ListModels",
        "m",
        "GET",
        "/models?limit=200&nextPageToken=X",
        (200, lambda text: len(json.loads(text)["models"]) == 2),
    ),
    Row(
        "DescribeModel",
        "m",
        "GET",
        "/models/noop_v0.1",
        (200, lambda text: len(json.loads(text)["workers"]) > 1),
    ),
    DELETE_NOOP,
    load("LoadModelWithInitialWorkers", "noop-v0.1", "noop_v0.1"),
    DELETE_NOOP,
    Row(
        "LoadModelWithInitialWorkersWithJSONReqBody",
        "m",
        "POST",
        "/models",
        (200, "Workers scaled"),
        (400, has("the body is not JSON: Expecting property name enclosed in double quotes")),
        STRICT_JSON,
        SINGLE,
        JSON,
    ),
    Row(
        "the same in JSON",
        "m",
        "POST",
        "/models",
        (200, "Workers scaled"),
        body=SINGLE.replace(b"'", b'"'),
        headers=JSON,
    ),
    predict("Predictions", "/predictions/noop", 200, "OK", b"data=test", FORM),
    predict("PredictionsBinary", "/predictions/noop", 200, "OK", b"test", BINARY),
    predict("PredictionsJson", "/predictions/noop", 200, "OK", JSON_BODY, JSON),
    predict("InvocationsJson", "/invocations?model_name=noop", 200, "OK", JSON_BODY, JSON),
    predict(
        "InvocationsMultipart",
        "/invocations",
        200,
        "OK",
        NAME,
        MULTIPART,
        ours=(400, "Parameter model_name is required."),
        reason=STARTUP,
    ),
    predict("ModelsInvokeJson", "/models/noop/invoke", 200, "OK", JSON_BODY, JSON),
    predict("ModelsInvokeMultipart", "/models/noop/invoke", 200, "OK", DATA, MULTIPART),
    Row("LegacyPredict", "i", "GET", "/noop/predict?data=test", (200, "OK")),
    predict(
        "PredictionsInvalidRequestSize", "/predictions/noop", 413, None, bytes(11485760), BINARY
    ),
    predict("PredictionsValidRequestSize", "/predictions/noop", 200, None, bytes(10385760), BINARY),
    load("PredictionsDecodeRequest", "noop-v1.0-config-tests", "noop-config"),
    predict(
        "PredictionsDecodeRequest",
        "/predictions/noop-config",
        200,
        lacks("bytearray"),
        JSON_BODY,
        JSON,
    ),
    unload("PredictionsDecodeRequest", "noop-config"),
    load("PredictionsDoNotDecodeRequest", "noop-v1.0-config-tests", "noop-config"),
    predict(
        "PredictionsDoNotDecodeRequest",
        "/predictions/noop-config",
        200,
        has("bytearray"),
        JSON_BODY,
        JSON,
    ),
    unload("PredictionsDoNotDecodeRequest", "noop-config"),
    load("PredictionsModifyResponseHeader", "respheader-test", "respheader"),
    predict(
        "PredictionsModifyResponseHeader",
        "/predictions/respheader",
        200,
        has("bytearray"),
        JSON_BODY,
        JSON,
    ),
    unload("PredictionsModifyResponseHeader", "respheader"),
    load(
        "PredictionsNoManifest", "noop-no-manifest", "nomanifest", ours=(500, None), reason=MANIFEST
    ),
    predict(
        "PredictionsNoManifest",
        "/predictions/nomanifest",
        200,
        "OK",
        JSON_BODY,
        JSON,
        ours=(404, "Model not found: nomanifest"),
        reason=MANIFEST,
    ),
    unload(
        "PredictionsNoManifest",
        "nomanifest",
        ours=(404, "Model not found: nomanifest"),
        reason=MANIFEST,
    ),
    load("ModelRegisterWithDefaultWorkers", "noop-v1.0", "noop_default_model_workers"),
    Row(
        "ModelRegisterWithDefaultWorkers",
        "m",
        "GET",
        "/models/noop_default_model_workers",
        (200, lambda text: json.loads(text)["minWorkers"] == 1),
    ),
    unload("ModelRegisterWithDefaultWorkers", "noop_default_model_workers"),
    load("Logging", "logging", "logging"),
    *[predict("Logging", "/predictions/logging", 200, None, b"data=test", FORM)] * 5,
    unload("Logging", "logging"),
    load("LoggingUnload", "logging", "logging"),
    unload("LoggingUnload", "logging"),
    load("LoadingMemoryError", "loading-memory-error", "memory_error", 507),
    load("PredictionMemoryError", "prediction-memory-error", "pred-err"),
    predict(
        "PredictionMemoryError", "/predictions/pred-err", 507, None, b"data=invalid_output", {}
    ),
    unload("PredictionMemoryError", "pred-err"),
    load("PredictionCustomErrorCode", "custom-return-code", "custom-return-code"),
    predict(
        "PredictionCustomErrorCode",
        "/predictions/custom-return-code",
        599,
        "Some Prediction Error",
        b"data=invalid_output",
        {},
    ),
    load("ErrorBatch", "error_batch", "err_batch"),
    predict(
        "ErrorBatch",
        "/predictions/err_batch",
        507,
        "Invalid response",
        b"data=invalid_output",
        FORM,
    ),
    Row(
        "InvalidRootRequest",
        "i",
        "GET",
        "/",
        (405, NOT_ALLOWED),
        (200, has('"name": "mms_handler"')),
        ROOT_PATH,
    ),
    Row("InvalidInferenceUri", "i", "GET", "/InvalidUrl", (404, NOT_FOUND)),
    Row("InvalidPredictionsUri", "i", "GET", "/predictions", (404, NOT_FOUND)),
    Row(
        "InvalidDescribeModel",
        "i",
        "OPTIONS",
        "/predictions/InvalidModel",
        (404, "Model not found: InvalidModel"),
    ),
    Row(
        "PredictionsModelNotFound",
        "i",
        "GET",
        "/predictions/InvalidModel",
        (404, "Model not found: InvalidModel"),
    ),
    Row("InvalidManagementUri", "m", "GET", "/InvalidUrl", (404, NOT_FOUND)),
    Row("InvalidModelsMethod", "m", "PUT", "/models", (405, NOT_ALLOWED)),
    Row("InvalidModelMethod", "m", "POST", "/models/noop", (405, NOT_ALLOWED)),
    Row(
        "DescribeModelNotFound",
        "m",
        "GET",
        "/models/InvalidModel",
        (404, "Model not found: InvalidModel"),
    ),
    Row("RegisterModelMissingUrl", "m", "POST", "/models", (400, "Parameter url is required.")),
    Row(
        "RegisterModelInvalidRuntime",
        "m",
        "POST",
        "/models?url=InvalidUrl&runtime=InvalidRuntime",
        (400, "Invalid RuntimeType value: InvalidRuntime"),
    ),
    Row(
        "RegisterModelNotFound",
        "m",
        "POST",
        "/models?url=InvalidUrl",
        (404, "Model not found in model store: InvalidUrl"),
    ),
    REGISTER_NOOP,
    REGISTER_NOOP,
    Row(
        "RegisterModelMalformedUrl",
        "m",
        "POST",
        "/models?url=http%3A%2F%2Flocalhost%3Aaaaa",
        (404, "Invalid model url: http://localhost:aaaa"),
        (400, has("http://localhost:aaaa is not an address: expected http://")),
        ADDRESSES,
    ),
    Row(
        "RegisterModelConnectionFailed",
        "m",
        "POST",
        "/models?url=http%3A%2F%2Flocalhost%3A18888%2Ffake.mar&synchronous=false",
        (400, "Failed to download model from: http://localhost:18888/fake.mar"),
        (400, has("fake.mar is not fetched: no address in MMS_HANDLER_ALLOWED_URLS allows it")),
        ADDRESSES,
    ),
    Row(
        "RegisterModelHttpError",
        "m",
        "POST",
        "/models?url=https%3A%2F%2Flocalhost%3A8443%2Ffake.mar&synchronous=false",
        (400, "Failed to download model from: https://localhost:8443/fake.mar, code: 404"),
        (400, has("fake.mar is not fetched: no address in MMS_HANDLER_ALLOWED_URLS allows it")),
        ADDRESSES,
    ),
    Row(
        "RegisterModelInvalidPath",
        "m",
        "POST",
        "/models?url=..%2Ffake.mar&synchronous=false",
        (404, "Relative path is not allowed in url: ../fake.mar"),
    ),
    Row("ScaleModelNotFound", "m", "PUT", "/models/fake", (404, "Model not found: fake")),
    Row(
        "ScaleModelFailure",
        "m",
        "POST",
        "/models?url=init-error&model_name=init-error&synchronous=false",
        (200, None),
        (202, PROCESSING),
        LOADS_BY_DEFAULT,
    ),
    Row(
        "ScaleModelFailure",
        "m",
        "PUT",
        "/models/init-error?synchronous=true&min_worker=1",
        (500, "Failed to start workers"),
        (404, "Model not found: init-error"),
        LOADS_BY_DEFAULT,
    ),
    Row(
        "the same without a worker",
        "m",
        "POST",
        "/models?url=init-error&model_name=init-error&initial_workers=0&synchronous=false",
        (200, REGISTERED("init-error")),
    ),
    Row(
        "the same without a worker",
        "m",
        "PUT",
        "/models/init-error?synchronous=true&min_worker=1",
        (500, "Failed to start workers"),
        (500, has("init-error cannot be served: ")),
        REASONS,
    ),
    Row("UnregisterModelNotFound", "m", "DELETE", "/models/fake", (404, "Model not found: fake")),
    DELETE_NOOP._replace(
        test="UnregisterModelTimeout",
        mms=(408, "Timed out while cleaning resources: noop_v0.1"),
        ours=(200, UNREGISTERED("noop_v0.1")),
        reason=GONE,
    ),
    DELETE_NOOP._replace(
        test="UnregisterModelTimeout",
        mms=(200, None),
        ours=(404, "Model not found: noop_v0.1"),
        reason=GONE,
    ),
    load("InvalidModel", "invalid", "invalid"),
    predict(
        "InvalidModel",
        "/predictions/invalid",
        503,
        "Invalid model predict output",
        b"data=invalid_output",
        FORM,
    ),
]


def write(folder: Path, code: str, name: str | None) -> None:
    folder.mkdir(parents=True)
    (folder / "service.py").write_text(f"def handle(data, context):\n    {code.strip()}\n")
    if name:
        (folder / "MAR-INF").mkdir()
        model = {"modelName": name, "handler": "service:handle"}
        text = json.dumps({"runtime": "python", "model": model, "specificationVersion": "1.0"})
        (folder / "MAR-INF" / "MANIFEST.json").write_text(text)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with two models, and a model store."""
    folder = tmp_path_factory.mktemp("mms")
    for name, code in HANDLERS.items():
        write(folder / "store" / name, code, None if name == "noop-no-manifest" else name)
    for name in ("noop", "noop_v0.1"):
        write(folder / name, HANDLERS["noop-v1.0"], name)
    return folder


@pytest.fixture(scope="module")
def serving(models) -> Iterator[Serving]:
    with serve(models, "noop", "noop_v0.1") as serving:
        yield serving


def serve(folder: Path, *names: str, **variables: str) -> Serving:
    words = (*(folder / name for name in names), "--model-store", folder / "store")
    env = {**os.environ, "SAGEMAKER_MAX_PAYLOAD_IN_MB": "10", **variables}
    serving = Serving(free_ports(), *words, "--workers", "1", log=folder / "log", env=env)
    wait_for(lambda: serving.ping() == 200, 60)
    return serving


@pytest.fixture(scope="module")
def undecoded(models) -> Iterator[Serving]:
    with serve(models, "noop", MMS_DECODE_INPUT_REQUEST="false") as serving:
        yield serving


def ask(serving: Serving, row: Row) -> tuple[int, str]:
    """The status, and the field that MMS's test compares, or else the body."""
    url = serving.inference if row.port == "i" else serving.management
    answer = client.call(row.method, url + row.path, row.body or None, row.headers, timeout_s=120)
    text = answer.body.decode()
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if isinstance(fields, dict):
        text = str(fields.get("message", fields.get("status", text)))
    if row.test == "PredictionsModifyResponseHeader" and row.port == "i":
        assert (answer.headers["dummy"], answer.content_type) == ("1", "text/plain")
    if answer.status == 202:
        (name,) = parse_qs(urlsplit(row.path).query)["model_name"]
        model = Row("", "m", "GET", f"/models/{name}", (0, ""))
        wait_for(lambda: ask(serving, model)[1] != "LOADING", 60)
    return answer.status, text


def agrees(answer: tuple[int, str], expected: tuple[int, Text]) -> bool:
    text = expected[1]
    right = text(answer[1]) if callable(text) else text in (None, answer[1])
    return answer[0] == expected[0] and right


def test_the_requests_of_mms(serving, undecoded):
    """Each gets MMS's status and text, or ours, and then really another one than MMS's."""
    wrong = []
    for row in ROWS:
        if row.reason == STARTUP:
            time.sleep(1)  # the gate looks at the models from time to time
        answer = ask(undecoded if row.test in UNDECODED else serving, row)
        if not agrees(answer, row.ours or row.mms) or (row.ours and agrees(answer, row.mms)):
            wrong.append((row.test, row.method, row.path, answer[0], answer[1][:300]))
    assert wrong == []


def test_the_differences_are_documented():
    """Each reason is in the list."""
    text = " ".join((ROOT / "docs" / "models.md").read_text().split())
    reasons = {row.reason for row in ROWS if row.ours}
    assert [reason for reason in reasons if reason.lower() not in text.lower()] == []
    assert all(bool(row.reason) == bool(row.ours) for row in ROWS)
