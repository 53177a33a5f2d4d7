"""Joining: what a model gets of a record, and what the output gets of a record and its result.

    record ─InputFilter─▶ body of a request ─model─▶ result
    record + result ─JoinSource─▶ joined ─OutputFilter─▶ record of the output

JSON: the result is the attribute SageMakerOutput of the record; a record that is not an object
becomes the attribute SageMakerInput of a new one.  CSV: the result's columns follow the record's.

Source: SageMaker's developer guide, "Associate Prediction Results with Input Records", and
TransformOutput.AssembleWith.
"""

from __future__ import annotations

import csv
import io
import json
from typing import Any, Iterable

from mms_handler.errors import BadInput, SettingsError
from mms_handler.media import CSV, JSON, JSON_LINES, main_type
from mms_handler.transform.filters import Filter

INPUT, OUTPUT = "SageMakerInput", "SageMakerOutput"

#: The content types whose records have parts: SageMaker's three, and JSON Lines by other names.
TYPES = (CSV, JSON, JSON_LINES, "application/x-jsonlines", "application/jsonl",
         "application/x-ndjson")  # fmt: skip


class Joiner:
    """What SageMaker's DataProcessing does with a record before and after the model.

    Attributes:
        filters_input: whether the model gets something else than the record.
        changes_output: whether the output gets something else than the result.
    """

    def __init__(
        self, input_filter: str = "$", join_source: str = "None", output_filter: str = "$"
    ) -> None:
        """Read the filters, which are JSONPaths; ``join_source`` is None or Input.

        Raises:
            SettingsError: a filter is wrong, or SageMaker does not support it; or python-jsonpath
                is not installed.
        """
        self._input_filter = Filter("InputFilter", input_filter)
        self._joins = join_source == "Input"
        self._output_filter = Filter("OutputFilter", output_filter)
        self.filters_input = not self._input_filter.everything
        self.changes_output = self._joins or not self._output_filter.everything

    def check(self, content_type: str, accept: str, split_type: str, assemble_with: str) -> None:
        """Check SageMaker's rules for jobs that filter or join, before the first record.

        Args:
            content_type: of the records.
            accept: content type of the results; "" if it is not known yet.
            split_type: None, Line, RecordIO or TFRecord.
            assemble_with: None or Line.

        Raises:
            SettingsError: a rule is broken.
        """
        if not self.filters_input and not self.changes_output:
            return
        for name, typed in (("content type", content_type), ("accept", accept or content_type)):
            if main_type(typed) not in TYPES:
                types = ", ".join(TYPES[:3])
                raise SettingsError(f"filters and joins need one of {types} as {name}, not {typed}")
        csv_in, csv_out = _is_csv(content_type), _is_csv(accept or content_type)
        if self._joins and csv_in != csv_out:
            raise SettingsError(
                "JoinSource Input needs CSV as content type and as accept, or JSON as both, not "
                f"{content_type} and {accept}"
            )
        if csv_in and csv_out and (split_type, assemble_with) != ("Line", "Line"):
            raise SettingsError(
                "filters and joins of CSV need the split type Line and the assembly with Line, not "
                f"{split_type} and {assemble_with}"
            )
        if csv_in:
            self._input_filter.check_columns()
        if csv_out:
            self._output_filter.check_columns()

    def body(self, record: bytes, content_type: str) -> bytes:
        """What the model gets of a record.

        Raises:
            BadInput: the record cannot be read, or InputFilter selects what it does not have.
        """
        if not self.filters_input:
            return record
        value = _read(record, content_type, "InputFilter: the record")
        return _write(self._input_filter.select(value), content_type, "InputFilter: the record")

    def output(self, record: bytes, content_type: str, result: bytes, result_type: str) -> bytes:
        """What the output gets of a record and its result, of the types given; without a line end.

        Raises:
            BadInput: the record or the result cannot be read, the record has the attribute of
                results, or OutputFilter selects what is not there.
        """
        if not self.changes_output:
            return result
        value = _read(result, result_type, "the result")
        if self._joins:
            record_value = _read(record, content_type, "JoinSource: the record")
            value = _joined(record_value, content_type, value, result_type)
        return _write(self._output_filter.select(value), result_type, "OutputFilter: the output")


def assemble(pieces: Iterable[bytes], assemble_with: str) -> bytes:
    """The bytes of an output: its pieces as they are, or, with Line, each with a line feed.

    A piece that ends in a line end, as a reply in CSV does, gets no second one.
    """
    if assemble_with != "Line":
        return b"".join(pieces)
    lines = [
        piece[:-2] if piece[-2:] == b"\r\n" else piece[:-1] if piece[-1:] == b"\n" else piece
        for piece in pieces
    ]
    return b"\n".join([*lines, b""])


def _end(piece: bytes) -> int:
    """Where the line end of a piece begins."""
    return len(piece) - (2 if piece.endswith(b"\r\n") else piece.endswith(b"\n"))


def _is_csv(content_type: str) -> bool:
    return main_type(content_type) == CSV


def _joined(record: Any, content_type: str, result: Any, result_type: str) -> Any:
    if _is_csv(content_type) != _is_csv(result_type):
        raise BadInput(
            f"JoinSource: a record of {content_type} cannot be joined with a result of "
            f"{result_type}; set accept to the content type"
        )
    if _is_csv(content_type):
        return record + result
    if not isinstance(record, dict):
        return {INPUT: record, OUTPUT: result}
    if OUTPUT in record:
        raise BadInput(f"JoinSource: the record has the attribute {OUTPUT}, which is for results")
    return {**record, OUTPUT: result}


def _read(record: bytes, content_type: str, what: str) -> Any:
    """The value of a record: JSON's, or the list of its columns.

    Raises:
        BadInput: it is not one, or its type has no parts.
    """
    if main_type(content_type) not in TYPES:
        types = ", ".join(TYPES[:3])
        raise BadInput(f"{what} is {content_type or 'of no type'}; only {types} have parts")
    is_csv = _is_csv(content_type)
    try:
        text = record.decode("utf-8-sig")
        return _columns(text[: _end(record) - len(record) or None]) if is_csv else json.loads(text)
    except UnicodeDecodeError as exc:
        raise BadInput(f"{what} is not UTF-8: {exc}") from None
    except (ValueError, csv.Error) as exc:
        raise BadInput(f"{what} is not {'CSV' if is_csv else 'JSON'}: {exc}") from None
    except RecursionError:
        raise BadInput(f"{what} is nested too deeply") from None


def _columns(line: str) -> list[str]:
    """The cells of a line.

    Raises:
        ValueError: it is several lines.
        csv.Error: its quotes are wrong.
    """
    if not any(mark in line for mark in '"\r\n'):
        return line.split(",")
    rows = list(csv.reader(io.StringIO(line, newline=""), strict=True))
    if len(rows) != 1:
        raise ValueError(f"it has {len(rows)} lines, and a record is one")
    return rows[0]


def _write(value: Any, content_type: str, what: str) -> bytes:
    """A value as JSON on one line, or as a line of columns, without a line end.

    Raises:
        BadInput: it has a number that JSON does not have.
    """
    if _is_csv(content_type):
        return _line(value if isinstance(value, list) else [value])
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise BadInput(f"{what} has NaN, Infinity or a number beyond any double") from None
    # Half of a surrogate pair, which JSON may have as \ud83d, cannot be UTF-8.
    return text.encode("utf-8", "backslashreplace")


def _line(cells: list[str]) -> bytes:
    line = ",".join(cells)
    if not line or line.count(",") != len(cells) - 1 or any(mark in line for mark in '"\r\n'):
        out = io.StringIO()
        csv.writer(out, lineterminator="").writerow(cells)
        line = out.getvalue()
    return line.encode()
