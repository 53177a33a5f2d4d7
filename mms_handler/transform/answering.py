"""From a part to a done part: its records are answered, and the replies are put together."""

from __future__ import annotations

import gzip
import json
from typing import Callable, NamedTuple, Optional, Sequence, Union

from mms_handler import media
from mms_handler.errors import BadInput
from mms_handler.transform.cutting import payload_limit, records_of
from mms_handler.transform.joining import Joiner, assemble
from mms_handler.transform.part import DonePart, Options, Part, RecordError, done
from mms_handler.transform.splitting import BadRecord, Record
from mms_handler.worker.reply import Reply

#: Characters of an error's message that are kept.
_MAX_MESSAGE = 500


class Failure(NamedTuple):
    """Why a body has no reply.

    Attributes:
        status: that a server would have sent.
        message: for a person.
    """

    status: int
    message: str


class Query(NamedTuple):
    """Bodies for a model, each to be answered as if it were alone.

    Attributes:
        bodies: of the requests.
        content_type: of all of them.
        accept: of all of them; "" for none.
    """

    bodies: Sequence[bytes]
    content_type: str
    accept: str


#: Answers the bodies of a query, in their order.
Ask = Callable[[Query], Sequence[Union[Reply, Failure]]]

#: Answers the lines of a part, of which there are so many; None if they must be asked one by one.
AskLines = Callable[[Part, int], Optional[Sequence[bytes]]]


class Answering:
    """Processes the parts of a job with one model."""

    def __init__(
        self, options: Options, ask: Ask, ask_lines: AskLines = lambda part, count: None
    ) -> None:
        """Make one.

        Args:
            options: of the job.
            ask: answers bodies.
            ask_lines: answers lines with less work, where it can.

        Raises:
            SettingsError: a filter is not valid, or what reads it is not installed.
        """
        self._options, self._joiner = options, joiner(options)
        self._ask, self._ask_lines = ask, ask_lines
        self._takes_lines = options.split_type == "Line" and options.single and not options.filters

    def process(self, part: Part) -> DonePart:
        """Answer the records of a part."""
        if self._takes_lines and 0 < len(part.data) <= payload_limit(self._options):
            count = part.next_first - part.first + (part.data[-1:] != b"\n")
            bodies = self._ask_lines(part, count)
            if bodies is not None:
                return done(part, count, self._packed(bodies))
        lines = self._plain_lines(part)
        if lines is not None:
            replies = self._ask(Query(lines, part.content_type, part.accept))
            if not any(isinstance(reply, Failure) for reply in replies):
                return done(part, len(lines), self._packed([reply.body for reply in replies]))  # type: ignore[union-attr]
            good = [each for each in records_of(part, self._options) if isinstance(each, Record)]
            return self._done(part, [self._outcome(part, *each) for each in zip(good, replies)])
        records = list(records_of(part, self._options))
        if not self._options.single:
            together = self._together(part, records)
            if together is not None:
                return done(part, len(records), self._packed([together]))
        return self._done(part, self._singly(part, records))

    def _done(self, part: Part, outcomes: Sequence[bytes | RecordError]) -> DonePart:
        errors = tuple(outcome for outcome in outcomes if isinstance(outcome, RecordError))
        pieces = [
            error_piece(outcome, part.accept) if isinstance(outcome, RecordError) else outcome
            for outcome in outcomes
        ]
        return done(part, len(outcomes), self._packed(pieces), errors)

    def _packed(self, pieces: Sequence[bytes]) -> bytes:
        """The output as it is written: members of a gzip file can stand one after another."""
        output = assemble(pieces, self._options.assemble_with)
        if not self._options.gzip_output or not output:
            return output
        return gzip.compress(output, 6, mtime=0)

    def _plain_lines(self, part: Part) -> Sequence[bytes] | None:
        """The data of all records of a part whose records are lines that are sent as they are.

        None if it has others.  What is found here ``records_of`` finds too, in ten times the time.
        """
        if not self._takes_lines or not part.data:
            return None
        data = bytes(part.data)
        lines = data.split(b"\n")
        if not lines[-1]:
            lines.pop()
        if b"\r" in data:
            lines = [line[:-1] if line.endswith(b"\r") else line for line in lines]
        if max(map(len, lines)) > payload_limit(self._options):
            return None
        return lines if all(lines) and not any(map(bytes.isspace, lines)) else None

    def _together(self, part: Part, records: Sequence[Record | BadRecord]) -> bytes | None:
        """The reply to one request with all records; None if they must be answered singly."""
        good = [record.framed for record in records if isinstance(record, Record)]
        if len(good) < len(records) or not good:
            return None
        (reply,) = self._ask(Query([b"".join(good)], part.content_type, part.accept))
        return None if isinstance(reply, Failure) or not _has_all(reply, len(good)) else reply.body

    def _singly(
        self, part: Part, records: Sequence[Record | BadRecord]
    ) -> Sequence[bytes | RecordError]:
        """What the output gets of each record, or its error."""
        outcomes: dict[int, bytes | RecordError] = {}
        good: dict[int, Record] = {}
        bodies: list[bytes] = []
        for place, record in enumerate(records):
            if isinstance(record, BadRecord):
                outcomes[place] = _error(record, Failure(400, record.problem))
                continue
            try:
                bodies.append(self._joiner.body(record.data, part.content_type))
                good[place] = record
            except BadInput as exc:
                outcomes[place] = _error(record, Failure(exc.status, str(exc)))
        if bodies:
            replies = self._ask(Query(bodies, part.content_type, part.accept))
            for place, reply in zip(good, replies):
                outcomes[place] = self._outcome(part, good[place], reply)
        return [outcomes[place] for place in range(len(records))]

    def _outcome(self, part: Part, record: Record, reply: Reply | Failure) -> bytes | RecordError:
        if isinstance(reply, Failure):
            return _error(record, reply)
        try:
            data, kind = record.data, part.content_type
            return self._joiner.output(data, kind, reply.body, reply.content_type)
        except BadInput as exc:
            return _error(record, Failure(exc.status, str(exc)))


def joiner(options: Options) -> Joiner:
    """What filters and joins the records of a job.

    Raises:
        SettingsError: a filter is not valid, or what reads it is not installed.
    """
    return Joiner(options.input_filter, options.join_source, options.output_filter)


def failed(part: Part, options: Options, status: int, message: str) -> DonePart:
    """A part none of whose records is answered, for one reason."""
    failure = Failure(status, message)
    return Answering(options, lambda query: [failure] * len(query.bodies)).process(part)


def error_piece(error: RecordError, accept: str) -> bytes:
    """What stands in the output in the place of a record without a prediction.

    One line of CSV with one field, or one line of JSON, as the output is; nothing in other types.
    """
    kind = media.ranges(accept)[0][0] if accept else media.JSON
    reason = {"record": error.record, "code": error.status, "message": error.message}
    text = json.dumps({"error": reason}, ensure_ascii=False)
    if kind == media.CSV:
        quoted = text.replace('"', '""')
        return f'"{quoted}"\r\n'.encode()
    if kind == media.JSON_LINES:
        return f"{text}\n".encode()
    return text.encode() if kind in (media.JSON, "*/*") or kind.startswith("text/") else b""


def _error(record: Record | BadRecord, failure: Failure) -> RecordError:
    text = " ".join(failure.message.split())[:_MAX_MESSAGE] or "it failed without a reason"
    return RecordError(record.number, record.offset, failure.status, text)


def _has_all(reply: Reply, count: int) -> bool:
    """Whether a reply has as many lines as there were records, if it is of lines."""
    if media.main_type(reply.content_type) not in (media.CSV, media.JSON_LINES):
        return True
    body = reply.body
    return body.count(b"\n") + (not body.endswith(b"\n")) == count
