"""Load an archive with a handler of its own, as MMS does, and let it answer a request."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from pathlib import Path
from typing import Any, Callable, Iterator

from mms.model_loader import MmsModelLoader

from mms_handler import media
from mms_handler.causes import cause
from mms_handler.errors import LoadError, ModelError
from mms_handler.script.frames import script_traceback
from mms_handler.worker.mms import bodies
from mms_handler.worker.reply import Reply
from mms_handler.worker.request import batch_of_one

Answer = Callable[[bytes, str, str], Reply]


def load(model_dir: Path, handler: str) -> Answer:
    """Load the model in ``model_dir`` with its own handler, and return what answers a request.

    MMS logs what a class's ``initialize`` raises, and serves the model all the same: each of its
    requests then fails (mms/model_loader.py:147-154).  Here it is an error.

    Args:
        model_dir: an unpacked archive.
        handler: ``module:function`` as the manifest names it; a module without such a function
            has one class.

    Raises:
        LoadError: it raised, or MMS finds no function or class in it.
    """
    module = Path(handler.partition(":")[0])
    sys.path[:0] = [str(model_dir / module.parent), str(model_dir)]
    try:
        with _logged_exceptions() as exceptions:
            service = MmsModelLoader().load(model_dir.name, str(model_dir), handler, None, 1)
    except BaseException as exc:
        reason = f"handler {handler}: {cause(exc, str(model_dir))}"
        raise LoadError(reason, script_traceback(exc, str(model_dir))) from exc
    if exceptions:
        raise LoadError(
            f"handler {handler}: initialize: {cause(exceptions[0], str(model_dir))}; MMS would "
            "only log this, and every request would fail",
            script_traceback(exceptions[0], str(model_dir)),
        ) from exceptions[0]

    def answer(body: bytes, content_type: str, accept: str) -> Reply:
        headers = {"Content-Type": content_type, "Accept": accept}
        value = bodies.decoded(body, content_type.partition(";")[0].strip())
        parts = batch_of_one(service.context, value, headers, "sample")
        # The attribute is private: Service.predict would turn exceptions into log lines.
        replies = service._entry_point([parts], service.context)
        return _reply(replies, service.context)

    return answer


def _reply(replies: Any, context: Any) -> Reply:
    if not isinstance(replies, list) or len(replies) != 1:
        raise ModelError(
            f"the handler returned {type(replies).__name__} for a batch of one request; MMS needs "
            "a list with one reply"
        )
    (reply,) = replies
    status, _ = context.get_response_status(0)
    content_type = context.get_response_content_type(0)
    if isinstance(reply, (bytes, bytearray)):
        return Reply(bytes(reply), content_type or "application/octet-stream", status)
    if isinstance(reply, str):
        return Reply(reply.encode(), content_type or "text/plain", status)
    return Reply(json.dumps(reply).encode(), content_type or media.JSON, status)


@contextlib.contextmanager
def _logged_exceptions() -> Iterator[list[BaseException]]:
    """Collect the exceptions that MMS's loader logs."""
    exceptions: list[BaseException] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            _, exception, _ = record.exc_info or (None, None, None)
            if record.module == "model_loader" and exception:
                exceptions.append(exception)

    collector = Collector()
    logging.getLogger().addHandler(collector)
    try:
        yield exceptions
    finally:
        logging.getLogger().removeHandler(collector)
