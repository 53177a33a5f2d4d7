"""Read the lines that Java prints as records of the log.

A worker prints records (worker/mms/output.py), or native code in it prints text.  MMS logs both by
log4j (log4j2.xml).  What is in no form is Java's own, such as a warning of the JVM.
"""

from __future__ import annotations

import json
import re
from typing import Any

from mms_handler import names
from mms_handler.log_records import Record, make_record
from mms_handler.quiet import NOISE

#: How a line of log4j begins.
_LOG4J = '{"thread":'

#: How a record of a worker begins; and one of the access log, which is not wrapped.
ACCESS = _RECORD = '{"time":'

#: The threads that read what a worker prints: before it has loaded, and afterwards.
_READER = re.compile(r"W-(?:\d+-(?P<loading>.*)|(?P<model>.*)-\d+)-std(?:out|err)\Z")

#: MMS cuts the model's name in a thread's.
_NAME_LENGTH = 25

_LEVELS = {"WARN": "WARNING", "FATAL": "CRITICAL", "TRACE": "DEBUG"}

#: What helps nobody, unless somebody looks for a fault in MMS: its pipes and sockets, what serve
#: says in its own words, and what a JVM prints when it starts.
_FOR_DEBUGGING = re.compile(
    r"attachIOStreams|terminateIOStreams|Stopped Scanner|model_service_worker started|"
    r"Listening on port|\[PID\]|MMS worker started|Python runtime|Connection accepted|"
    r"Frontend disconnected|Model .* loaded io_fd|Load model failed|Number or consecutive|"
    r"WorkerThread interrupted during waitFor|Model not found|Model server started\.|"
    r"WARNING: sun\.reflect\.Reflection\.getCallerClass is not supported"
)


def record_of(line: str) -> Record | None:
    """The record of a line; None for an empty line."""
    if line.startswith(_LOG4J):
        try:
            return _of_log4j(json.loads(line))
        except (ValueError, LookupError):
            pass  # two processes have written at once
    if not line.strip():
        return None
    level = "DEBUG" if _FOR_DEBUGGING.match(line) else "WARNING"
    return make_record(level, line, source="mms")


def _of_log4j(entry: dict[str, Any]) -> Record:
    text, level = entry["message"], _LEVELS.get(entry["level"], entry["level"])
    reader = _READER.match(entry["thread"]) if entry["logger"] == "WorkerLifeCycle" else None
    name = (reader["loading"] or reader["model"] or "") if reader else ""
    if reader and text.startswith(_RECORD):
        record = _of_worker(text, name)
        if record:
            return record
    if _FOR_DEBUGGING.match(text) or NOISE.match(text.encode("utf-8", "replace")):
        level = "DEBUG"
    if reader:
        version = names.version_in(name)
        fields = {"source": "worker", "model": names.of_model(name), "version": version}
    else:
        fields = {"source": "mms", "logger": entry["logger"]}
    filled = {key: value for key, value in fields.items() if value}
    record = {"time": entry["time"], "level": level, **filled, "message": text}
    traceback = entry["traceback"].strip()
    if traceback and "\n" not in traceback:  # the exception's message alone
        return {**record, "message": f"{text}: {traceback}"}
    return {**record, "traceback": traceback} if traceback else record


def _of_worker(text: str, name: str) -> Record | None:
    """A worker's record; None if it is not one, or is another model's than that of the thread."""
    try:
        record: Record = json.loads(text)
        model, version = str(record["model"]), str(record.get("version", ""))
        mms_name = names.in_mms(model, version) if version else model
        texts = all(isinstance(record[key], str) for key in ("time", "level", "message"))
    except (ValueError, LookupError, TypeError):
        return None
    return record if texts and mms_name[:_NAME_LENGTH] == name else None
