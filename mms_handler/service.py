"""MMS's entry point, ``mms_handler.service:handle``: a list of requests in, as many replies out.

The only module that knows MMS's context.  MMS calls ``handle(None, context)`` when a worker
loads its model and ``handle([request, ...], context)`` for each batch.
"""

from __future__ import annotations

import copy
import functools
import json
import logging
import multiprocessing
import re
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

from mms_handler import codecs, dependencies, errors, script, settings, shims
from mms_handler.errors import LoadError, OutOfResources, UnsupportedType
from mms_handler.settings import Settings

log = logging.getLogger(__name__)


class Service:
    """One model in one worker process.

    It is given to MMS as a function, not as a class with ``initialize``: MMS logs and drops
    what ``initialize`` raises (mms/model_loader.py:147-154), so a model that failed to load
    would be registered and answer 200.
    """

    def __init__(self, load: Callable[[Any, Settings], Any]) -> None:
        """``load`` makes the Pipeline from MMS's context and our settings."""
        self._load = load

    def __call__(self, data: list[dict[str, Any]] | None, context: Any) -> list[bytes] | None:
        """Load the model (``data`` is None) or answer each request of a batch."""
        if data is None:
            self._start(context)
            return None
        return [self._answer(index, request, context) for index, request in enumerate(data)]

    def _start(self, context: Any) -> None:
        # MMS would parse JSON and text itself, and a body that is neither kills the worker;
        # its codec asks the environment anew for each message (otf_message_handler.py:289).
        settings.export("MMS_DECODE_INPUT_REQUEST", "false")
        try:
            self._settings = settings.current()
            self._pipeline = self._load(context, self._settings)
        except Exception as exc:
            # One line first; MMS logs the traceback.  Its log readers are told to stop as
            # soon as the worker dies, hence the pause.
            log.error("cannot load model %s: %s", context.model_name, " ".join(str(exc).split()))
            sys.stdout.flush()
            time.sleep(0.1)
            raise
        log.info("model %s is loaded", context.model_name)

    def _answer(self, index: int, request: dict[str, Any], context: Any) -> bytes:
        """Answer one request of the batch.  What it raises stays its own."""
        try:
            reply = self._pipeline.transform(
                **_arguments(index, request, context, self._settings.max_body_bytes)
            )
            if len(reply.body) > self._settings.max_response_bytes:  # would kill the worker
                raise OutOfResources(
                    f"the reply has {len(reply.body)} bytes, the server sends at most "
                    f"{self._settings.max_response_bytes}"
                )
            body: bytes = reply.body
            content_type = reply.content_type
            status, phrase = context.get_response_status(index)  # the script may have set them
            status = status if reply.status == 200 else reply.status
        except (Exception, SystemExit) as exc:
            found = self._note(exc, index, context)
            body, content_type = _fault_body(found, index, context)
            context.get_response_headers(index).clear()
            status, phrase = found.status, found.phrase
        context.set_response_content_type(index, content_type)
        context.set_response_status(*_sendable_status(status, phrase), index)
        _make_sendable(context.get_response_headers(index))
        return body

    def _note(self, exc: BaseException, index: int, context: Any) -> errors.Fault:
        """Log what went wrong with a request: in one line, and a bug with its traceback."""
        found = errors.fault(exc)
        bug = found.status >= 500
        log.log(
            logging.ERROR if bug else logging.WARNING,
            "request %s: %d %s",
            context.get_request_id(index),
            found.status,
            errors.cause(exc, context.system_properties["model_dir"])
            + (_traceback(exc) if bug else ""),
        )
        return found


def _arguments(index: int, request: dict[str, Any], context: Any, limit: int) -> dict[str, Any]:
    """What Pipeline.transform wants of one request; ``limit`` is for a body once decompressed."""
    received = context.get_all_request_header(index)
    headers = {name.lower(): value for name, value in received.items() if isinstance(value, str)}
    body, content_type = _body(request, received, headers.get("content-type", ""))
    encoding = headers.get("content-encoding", "")
    return {
        "body": codecs.decompress(body, encoding, limit) if encoding else body,
        "content_type": content_type or codecs.JSON,
        "accept": headers.get("accept", ""),
        "by_name": {
            "context": _alone(index, context),
            "gpu_id": context.system_properties["gpu_id"],
            "request_id": context.get_request_id(index),
            "headers": headers,
        },
    }


_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def _body(
    request: dict[str, Any], received: Mapping[str, Any], content_type: str
) -> tuple[bytes, str]:
    """The body and its type: as it came, or the one part of a form, which MMS takes apart.

    MMS keeps each part's own Content-Type in the dict of headers, as a dict under its name.
    """
    if "body" in request and codecs.main_type(content_type) not in _FORMS:
        return bytes(request["body"]), content_type
    parts = {name: bytes(value) for name, value in request.items() if name != "model_name"}
    if len(parts) != 1:
        names = ", ".join(sorted(parts)) or "none"  # none: curl -d '[[1, 2]]', without its type
        raise UnsupportedType(
            f"a form of one part was wanted, the parts are: {names}; "
            "for a body that is no form, say its type, as Content-Type: application/json"
        )
    ((name, value),) = parts.items()
    own = received.get(name)
    return value, str(own.get("content-type") or "") if isinstance(own, dict) else ""


def _alone(index: int, context: Any) -> Any:
    """MMS's context as it is for a batch of one: what a script does to index 0 is its own."""
    view = copy.copy(context)
    view.request_ids = {0: context.get_request_id(index)}
    view.request_processor = [context.request_processor[index]]
    return view


# --- what MMS can send -----------------------------------------------------------------------
#
# Its frame writes a text's length in characters and its bytes in UTF-8, and it does not check
# what goes into the status line and the headers (otf_message_handler.py:47-55, 89-106): one
# letter outside ASCII kills the worker, a line break splits the reply or hangs the client.


def _sendable_status(status: Any, phrase: Any) -> tuple[int, str]:
    if not isinstance(status, int) or not 200 <= status <= 599:
        log.warning("status %r is not a number from 200 to 599; 500 sent", status)
        status = 500
    if not phrase:
        return status, "OK" if status == 200 else ""
    return status, "".join(c if c.isascii() and c.isprintable() else "?" for c in str(phrase))


#: Headers of the connection, which is the front end's; it corrupts a chunked reply.
_HOP_BY_HOP = {
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


def _make_sendable(headers: dict[Any, Any]) -> None:
    """Take out of ``headers`` what would break the frame or split the reply."""
    for name, value in list(headers.items()):
        sendable = _is_token(name) and isinstance(value, str) and _is_printable(value)
        if not sendable or name.lower() in _HOP_BY_HOP:
            log.warning("reply header %r: %r cannot be sent; left out", name, value)
            del headers[name]


def _is_printable(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _is_token(name: Any) -> bool:
    return isinstance(name, str) and bool(re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name))


def _traceback(exc: BaseException) -> str:
    """The end of the traceback; MMS's log takes seconds for a megabyte."""
    return "\n" + "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))[-6_000:]


#: Bytes of a fault's message.  MMS closes a failed request's connection without waiting for its
#: body to be read, so a slow client loses the end of a long one (NettyUtils.java:204-207).
MAX_MESSAGE = 1_500


def _fault_body(found: errors.Fault, index: int, context: Any) -> tuple[bytes, str]:
    """A fault as JSON; as text where the client, or the script before it failed, wants text."""
    message = found.message.encode("utf-8", "replace")[:MAX_MESSAGE].decode("utf-8", "ignore")
    if _wants_text(index, context):
        return message.encode(), "text/plain"
    body = {
        "code": found.status,
        "type": found.type[:100],
        "message": message,
        "request_id": context.get_request_id(index),
    }
    return json.dumps(body, ensure_ascii=False).encode(), codecs.JSON


def _wants_text(index: int, context: Any) -> bool:
    set_by_script = context.get_response_content_type(index)
    if isinstance(set_by_script, str) and set_by_script.startswith("text/"):
        return True
    accepts = [v for k, v in context.get_all_request_header(index).items() if k.lower() == "accept"]
    ranges = codecs.ranges(accepts[0]) if accepts and isinstance(accepts[0], str) else []
    return bool(ranges) and ranges[0][0] == "text/plain"


# --- loading ---------------------------------------------------------------------------------


def load(context: Any, chosen: Settings) -> Any:
    """The Pipeline of a model_dir: import the script, load the model once, bind the functions.

    Raises:
        LoadError: names the phase, the exception and the line of the script.
    """
    model_dir = Path(context.system_properties["model_dir"])
    gpu_id = context.system_properties["gpu_id"]
    if gpu_id is None:
        # The legacy containers' choice; tiny models are up to twice as fast without the engine's
        # threads (docs/performance.md).
        settings.export_defaults({"MXNET_ENGINE_TYPE": "NaiveEngine"})
    with _phase("mxnet", model_dir):
        from mms_handler import models
        from mms_handler.pipeline import Pipeline
    with _phase("script", model_dir):
        path = script.find(model_dir, chosen.program or packed_script(context.manifest))
    hooks: dict[str, Callable[..., Any]] = {}
    if path:
        with _phase("requirements", model_dir):
            script.search(dependencies.paths(path.parent, settings.cache_folder(chosen)))
        with _phase("script", model_dir):
            shims.install()  # where no real package, of the requirements perhaps, has the name
            cpus = multiprocessing.cpu_count()
            variables = shims.hosting_variables(str(model_dir), models.gpu_count(), cpus)
            settings.export_defaults(variables)
            hooks = script.hooks(script.load(path))
    device = models.device(gpu_id)
    given = {"model_dir": str(model_dir), "context": context, "ctx": device, "gpu_id": gpu_id}
    default = functools.partial(_default_model, first_dimension=chosen.first_dimension, on=device)
    bound = []
    for hook in ("pre_model_fn", "model_fn", "model_warmup_fn"):
        with _phase(hook, model_dir):
            if hook in hooks or hook == "model_fn":
                bound.append(script.bind(hook, hooks.get(hook, default)))
                result = bound[-1](given)
        if hook == "model_fn":
            given["model"] = result
    with _phase("functions", model_dir):
        pipeline = Pipeline(
            hooks,
            given["model"],
            device=device,
            accept=chosen.accept,
            predict_order=chosen.predict_order,
        )
    pipeline.bound = [*bound, *pipeline.bound]
    return pipeline


def packed_script(manifest: Any) -> str | None:
    """The script's name, as ``archive.pack`` keeps it in MMS's manifest."""
    name = ((manifest or {}).get("model") or {}).get("script")
    return name if isinstance(name, str) else None


def _default_model(model_dir: str, first_dimension: int, on: Any) -> Any:
    """The contract's default model_fn."""
    from mms_handler import models

    return models.load(Path(model_dir), first_dimension, on)


def inspect(model_dir: Path, sample: tuple[bytes, str, str] | None) -> dict[str, Any]:
    """Load a model_dir as a worker would, in this process, and say what was found.

    Args:
        model_dir: this process's working directory, as it is a worker's.
        sample: body, Content-Type and Accept of a request to answer; or None.

    Returns:
        script, functions, artifacts, model, and with a sample status, content_type, reply;
        or an error alone.
    """
    from mms.context import Context

    chosen = settings.current()
    kept = model_dir / "MAR-INF" / "MANIFEST.json"
    manifest = json.loads(kept.read_text()) if kept.is_file() else None
    context = Context(model_dir.name, str(model_dir), manifest, 1, None, "")
    try:
        pipeline = load(context, chosen)
    except LoadError as exc:
        return {"error": str(exc)}
    path = script.find(model_dir, chosen.program or packed_script(manifest))
    found: dict[str, Any] = {
        "script": str(path.relative_to(model_dir)) if path else None,
        "functions": [(one.hook, one.is_default, str(one)) for one in pipeline.bound],
        "artifacts": sorted(p.name for p in model_dir.iterdir() if p.is_file()),
        "model": f"{type(pipeline.model).__module__}.{type(pipeline.model).__qualname__}",
    }
    return {**found, **_answered(pipeline, *sample)} if sample else found


def _answered(pipeline: Any, body: bytes, content_type: str, accept: str) -> dict[str, Any]:
    try:
        reply = pipeline.transform(body, content_type, accept, {})
    except (Exception, SystemExit) as exc:
        found = errors.fault(exc)
        return {"status": found.status, "content_type": codecs.JSON, "reply": found.message}
    shown = reply.body[:200].decode("utf-8", "replace")
    return {"status": reply.status, "content_type": reply.content_type, "reply": shown}


@contextmanager
def _phase(name: str, model_dir: Path) -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit) as exc:
        raise LoadError(f"{name}: {errors.cause(exc, str(model_dir))}") from exc


handle = Service(load)
