"""Get bodies from MMS as the client sent them."""

from __future__ import annotations

import types

from mms.protocol import otf_message_handler


def keep_undecoded() -> None:
    """Have MMS's codec hand over bodies as they came.

    It would parse JSON and text itself, and a body that it cannot parse kills the worker.  It reads
    MMS_DECODE_INPUT_REQUEST for each message (otf_message_handler.py:289), and a script may clear
    the environment.  So the codec, which uses ``os`` for nothing else, gets an environment of its
    own.
    """
    environ = {"MMS_DECODE_INPUT_REQUEST": "false"}
    otf_message_handler.os = types.SimpleNamespace(environ=environ)
