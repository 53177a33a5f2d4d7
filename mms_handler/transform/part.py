"""The unit of a transform job: a part of an input goes in, a done part comes out.

Both can be pickled, so that a part may be processed anywhere.
"""

from __future__ import annotations

import hashlib
import io
from mmap import mmap
from typing import BinaryIO, NamedTuple, Protocol, Tuple, TypeVar, Union

from mms_handler import media


class Options(NamedTuple):
    """What decides the bytes of a job's output, beside its model and its inputs.

    Attributes:
        split_type: None, Line, RecordIO or TFRecord: how an input is split into records.
        strategy: SingleRecord or MultiRecord: how many records a request has.
        max_payload_bytes: of a request; 0: any number.
        assemble_with: None or Line: what follows each reply in the output.
        join_source: None or Input: whether an output record begins with its input record.
        input_filter: JSONPath: what of a record the model gets.
        output_filter: JSONPath: what of a joined record is written.
        content_type: of the records; "": by the name of their input.
        accept: content types that a reply may have; "": the model decides.
        compression_type: of the inputs, None or Gzip; "": Gzip for names that end with .gz.
        gzip_output: whether the output is compressed.
    """

    split_type: str = "None"
    strategy: str = "SingleRecord"
    max_payload_bytes: int = 6 << 20
    assemble_with: str = "None"
    join_source: str = "None"
    input_filter: str = "$"
    output_filter: str = "$"
    content_type: str = ""
    accept: str = ""
    compression_type: str = ""
    gzip_output: bool = False

    def accepted(self, content_type: str) -> str:
        """What replies to records of a content type may be; records of CSV are joined with CSV."""
        is_csv = media.main_type(content_type) == media.CSV
        return self.accept or (media.CSV if self.filters and is_csv else "")

    def is_gzipped(self, name: str) -> bool:
        """Whether the input of a name is compressed."""
        if not self.compression_type:
            return name.lower().endswith(".gz")
        return self.compression_type == "Gzip"

    @property
    def single(self) -> bool:
        """Whether each record is answered by itself, because that is asked for or filters it."""
        return self.strategy == "SingleRecord" or self.filters

    @property
    def filters(self) -> bool:
        """Whether records are filtered or joined."""
        return (self.input_filter, self.output_filter, self.join_source) != ("$", "$", "None")


class Part(NamedTuple):
    """Whole records of an input, one after another.

    Attributes:
        input: the input's name.
        number: of the part in its input, from 0.
        first: the number of its first record in the input, from 1.
        offset: where its first byte lies in the input, once that is decompressed.
        data: its bytes, with what stands between the records; or a map of the file in which the
            driver has put them.
        content_type: of its records.
        accept: content types that a reply may have; "": the model decides.
        end: where the next part begins.
        next_first: the number of the next part's first record.
        problem: why its only record cannot be read; then there are no data.
    """

    input: str
    number: int
    first: int
    offset: int
    data: Union[bytes, mmap]
    content_type: str
    accept: str
    end: int
    next_first: int
    problem: str = ""

    def stream(self, by_lines: bool) -> BinaryIO:
        """The bytes, to be read from their beginning.

        They are not copied if they are a map, unless ``readline`` is needed, whose limit a map
        does not take.
        """
        if by_lines or not isinstance(self.data, mmap):
            return io.BytesIO(self.data)
        self.data.seek(0)
        return self.data  # type: ignore[return-value]  # it is read as a file


class RecordError(NamedTuple):
    """Why a record has no prediction.

    Attributes:
        record: its number in its input, from 1; of an input that is split by Line, its line.
        offset: where it begins in the input, once that is decompressed.
        status: the HTTP status that a server would have sent.
        message: why, for a person.
    """

    record: int
    offset: int
    status: int
    message: str


class DonePart(NamedTuple):
    """What became of a part.

    Attributes:
        input, number, first, offset, end, next_first: the part's.
        records: how many it has.
        output: the bytes for the output, compressed if the output is.
        checksum: SHA-256 of ``output``.
        errors: of the records without a prediction, in their order.
    """

    input: str
    number: int
    first: int
    offset: int
    end: int
    next_first: int
    records: int
    output: bytes
    checksum: str
    errors: Tuple[RecordError, ...] = ()


def done(part: Part, records: int, output: bytes, errors: Tuple[RecordError, ...] = ()) -> DonePart:
    """The result of ``part``, with its checksum."""
    head = part.input, part.number, part.first, part.offset, part.end, part.next_first
    return DonePart(*head, records, output, checksum(output), errors)


def checksum(output: bytes) -> str:
    """SHA-256, in hexadecimal digits."""
    return hashlib.sha256(output).hexdigest()


P = TypeVar("P", contravariant=True)  #: a part, as a worker gets it


class Worker(Protocol[P]):
    """Anything that processes parts, one at a time: a process here, a server, another machine."""

    def process(self, part: P) -> DonePart:
        """Process a part.  A record that fails becomes an error of the done part.

        Raises:
            HandlerError: the job cannot go on.
        """

    def close(self) -> None:
        """Free what it holds; another thread may be waiting for ``process``, which then fails."""
