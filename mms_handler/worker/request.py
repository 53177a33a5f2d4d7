"""A client's request, read from what MMS hands to a worker."""

from __future__ import annotations

import copy
import sys
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from mms.context import RequestProcessor
from mms.metrics.metrics_store import MetricsStore
from mms.service import Service

from mms_handler import codecs, media
from mms_handler.errors import UnsupportedType
from mms_handler.worker.mms.metrics import Metrics

#: The names of values that differ between requests, for parameters of exactly these names.
PER_REQUEST = ("context", "gpu_id", "request_id", "headers")

#: The types of forms, whose parts come one by one.
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


class TextBody(str):
    """A body of text, with a ``decode`` that returns the text itself.

    Some scripts expect str bodies and others bytes that they decode; this works with both.
    """

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> TextBody:
        return self


class Request(NamedTuple):
    """What a client sends to a model.

    Attributes:
        body: the body, decompressed.
        content_type: the Content-Type header as sent; never empty.
        accept: the Accept header as sent, or "".
        by_name: values for parameters of exactly the names PER_REQUEST.
        tensors: the arrays of a request that names them, which the default functions take in place
            of a body and answer with Outputs; None for any other request.
    """

    body: bytes
    content_type: str
    accept: str
    by_name: Mapping[str, Any]
    tensors: Mapping[str, Any] | None = None

    def script_body(self) -> bytes | TextBody:
        """The body as the contract hands it to scripts: text for JSON and CSV, bytes otherwise."""
        if media.is_text(self.content_type):
            return TextBody(codecs.text(self.body, self.content_type))
        return self.body


class Received(Mapping[str, Any]):
    """A request as it reached this worker.

    As a mapping it has the values for parameters of its names.  Each is made when it is first asked
    for, and so are MMS's objects.

    Attributes:
        request_id: the client's or the server's.
        context: MMS's, of the worker or of a batch.
        processor: MMS's RequestProcessor, which has what a script sets for the reply; None if no
            function has asked for a context.
    """

    def __init__(self, request_id: str, context: Any, processor: Any = None) -> None:
        self.request_id, self.context, self.processor = request_id, context, processor
        self._made: dict[str, Any] = {}

    def sent_headers(self) -> Mapping[str, Any]:
        """The headers as MMS decodes them; for a part of a form, a dict under its name."""
        raise NotImplementedError

    def parts(self) -> Mapping[str, Any]:
        """The body under ``body``, or the parts of a form or a query by name."""
        raise NotImplementedError

    def read(self, max_bytes: int) -> Request:
        """Read it.

        Args:
            max_bytes: limit for a body once it is decompressed.

        Raises:
            HandlerError: the body cannot be decompressed, is too large, or is a form of several
                parts.
        """
        headers = self.headers
        content_type = as_sent(headers.get("content-type", ""))
        body, content_type = _body(self.parts(), self.sent_headers(), content_type)
        encoding = as_sent(headers.get("content-encoding", ""))
        return Request(
            body=codecs.decompress(body, encoding, max_bytes) if encoding else body,
            content_type=content_type or media.JSON,
            accept=as_sent(headers.get("accept", "")),
            by_name=self,
        )

    @property
    def headers(self) -> Mapping[str, str]:
        """The client's headers by lower-case name, as MMS decodes them."""
        return {
            name.lower(): value
            for name, value in self.sent_headers().items()
            if isinstance(value, str)
        }

    def __getitem__(self, name: str) -> Any:
        if name == "request_id":
            return self.request_id
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Any:
        if name == "context":
            return self._context_of_one()
        if name == "headers":
            return {name: as_sent(value) for name, value in self.headers.items()}
        if name == "gpu_id":
            return self.context.system_properties["gpu_id"]
        raise KeyError(name)

    def _context_of_one(self) -> Any:
        """A copy of MMS's context with this request alone, at index 0.

        Scripts are written for one request: what they set at index 0 must apply to this one.
        """
        view = copy.copy(self.context)
        view.request_ids = {0: self.request_id}
        view.request_processor = [self.asked_processor()]
        view.metrics = Metrics(self.context.metrics, self.request_id)
        return view

    def asked_processor(self) -> Any:
        """The processor, made now if there is none yet."""
        if self.processor is None:
            self.processor = RequestProcessor(self.sent_headers())
        return self.processor

    def __iter__(self) -> Iterator[str]:
        return iter(PER_REQUEST)

    def __len__(self) -> int:
        return len(PER_REQUEST)


class _ReceivedByMms(Received):
    """A request of a batch of MMS."""

    def __init__(self, index: int, parts: Mapping[str, Any], context: Any) -> None:
        processor = context.request_processor[index]
        super().__init__(context.get_request_id(index), context, processor)
        self._sent = parts

    def sent_headers(self) -> Mapping[str, Any]:
        headers: Mapping[str, Any] = self.processor.get_request_properties()
        return headers

    def parts(self) -> Mapping[str, Any]:
        return self._sent


def received_by_mms(batch: Sequence[Mapping[str, Any]], context: Any) -> list[Received]:
    """The requests of a batch that MMS hands over with its ``context``."""
    return [_ReceivedByMms(index, parts, context) for index, parts in enumerate(batch)]


def request_without_mms(
    context: Any,
    body: bytes,
    content_type: str,
    accept: str,
    request_id: str,
    *,
    headers: Mapping[str, str] | None = None,
    max_bytes: int = sys.maxsize,
) -> Request:
    """Make a Request that no client sent, through MMS's own classes, as a batch of one.

    Afterwards MMS's ``context`` belongs to this request: hooks may set its reply's status and
    headers.

    Raises:
        HandlerError: as ``Received.read``.
    """
    sent = {"Content-Type": content_type, "Accept": accept, **(headers or {})}
    parts = batch_of_one(context, body, sent, request_id)
    (received,) = received_by_mms([parts], context)
    return received.read(max_bytes)


class _ReadByUs(Received):
    """A request whose body this program read from a file."""

    def __init__(self, context: Any, body: bytes, content_type: str, accept: str) -> None:
        super().__init__("transform", context)
        self._body = body
        self._sent = {"Content-Type": content_type, **({"Accept": accept} if accept else {})}

    def sent_headers(self) -> Mapping[str, Any]:
        return self._sent

    def parts(self) -> Mapping[str, Any]:
        return {"body": self._body}


def request_read_by_us(context: Any, body: bytes, content_type: str, accept: str) -> Request:
    """Make a Request that no client sent; unlike ``request_without_mms``, for a batch of many.

    Args:
        context: MMS's; it keeps nothing of the request.
        body: of the request.
        content_type: its Content-Type.
        accept: its Accept; "": it has none.
    """
    if context.metrics is None:
        context.metrics = MetricsStore([], context.model_name)
    received = _ReadByUs(context, body, content_type, accept)
    return Request(body, content_type, accept, received)


def batch_of_one(
    context: Any, body: Any, headers: Mapping[str, str], request_id: str
) -> Mapping[str, Any]:
    """What MMS hands over for one request; its ``context`` belongs to this request afterwards."""
    batch = [
        {
            "requestId": request_id.encode(),
            "headers": [
                {"name": name.encode(), "value": value.encode()} for name, value in headers.items()
            ],
            "parameters": [
                {"name": "body", "contentType": headers.get("Content-Type"), "value": body}
            ],
        }
    ]
    processors, (parts,), ids = Service.retrieve_data_for_inference(batch)
    context.request_processor, context.request_ids = processors, ids
    context.metrics = MetricsStore(ids, context.model_name)
    received: Mapping[str, Any] = parts
    return received


def as_sent(value: str) -> str:
    """A header's value as the client sent it.  MMS's front end decodes every value as Latin-1."""
    try:
        return value if value.isascii() else value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _body(
    parts: Mapping[str, Any], received: Mapping[str, Any], content_type: str
) -> tuple[bytes, str]:
    """The body and its content type: as sent, or those of the only part of a form or a query.

    MMS splits forms, and adds the parts of a query to an empty body.  It keeps a part's
    Content-Type among the headers, in a dict under the part's name.
    """
    is_form = media.main_type(content_type) in FORMS
    body = parts.get("body")
    if body and not is_form:
        return bytes(body), content_type
    bodies = {name: bytes(value) for name, value in parts.items() if name != "model_name"}
    if body is not None and not is_form:
        del bodies["body"]
        if len(bodies) != 1:
            return b"", content_type
    if len(bodies) != 1:
        raise UnsupportedType(_not_one_part(sorted(bodies), is_form))
    ((name, body),) = bodies.items()
    part_headers = received.get(name)
    part_type = part_headers.get("content-type") if isinstance(part_headers, dict) else None
    return body, str(part_type or "") or ("" if is_form else content_type)


def _not_one_part(names: Sequence[str], is_form: bool) -> str:
    if names:
        return (
            f"a form or a query must have exactly one part, this one has: {', '.join(names)}; "
            "to send several arrays use JSON, NPZ or RecordIO"
        )
    if is_form:  # curl -d '[[1, 2]]' without a type
        return (
            "the Content-Type is a form's, which is curl's default; for JSON add "
            "-H 'Content-Type: application/json'"
        )
    return "the request has no body"
