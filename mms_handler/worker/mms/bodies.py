"""Decode bodies where a failure harms nobody: MMS's codec would end the worker for it."""

from __future__ import annotations

import json
import types
from typing import Any

from mms.protocol import otf_message_handler

from mms_handler import media
from mms_handler.errors import BadInput


def keep_undecoded() -> None:
    """Have MMS's codec hand over bodies as they came.

    It would parse JSON and text itself, and a body that it cannot parse kills the worker.  It reads
    MMS_DECODE_INPUT_REQUEST for each message (otf_message_handler.py:289), and a script may clear
    the environment.  So the codec, which uses ``os`` for nothing else, gets an environment of its
    own.
    """
    environ = {"MMS_DECODE_INPUT_REQUEST": "false"}
    otf_message_handler.os = types.SimpleNamespace(environ=environ)


def decoded(body: bytes | bytearray, content_type: str, subject: str = "the body") -> Any:
    """What MMS's codec makes of a body for a handler (otf_message_handler.py:299-304).

    Args:
        body: as the client sent it.
        content_type: without parameters.  The codec tells upper from lower case.
        subject: what the error calls it.

    Raises:
        BadInput: the body is not of its type; says where.
    """
    try:
        if content_type == media.JSON:
            return json.loads(body.decode())
        return body.decode() if content_type.startswith("text") else bytearray(body)
    except UnicodeDecodeError as exc:
        text = f"{subject} is {content_type}, and not UTF-8: {exc.reason} at byte {exc.start}"
        raise BadInput(text) from exc
    except ValueError as exc:
        raise BadInput(f"{subject} is not valid JSON: {exc}") from exc
    except RecursionError as exc:
        raise BadInput(f"{subject} is JSON that is nested too deeply") from exc
