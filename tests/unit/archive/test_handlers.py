"""handlers: those that MMS finds in an archive, or installed."""

from __future__ import annotations

import pytest

from mms_handler.archive import handlers
from mms_handler.errors import ArchiveError


@pytest.mark.parametrize(
    "handler",
    [
        "mms_handler.service:handle",
        "own",
        "own.py",
        "own:handle",
        "own.py:handle",
        "package:handle",
        "package.part:handle",
        "package/part.py:handle",
        "json:loads",
    ],
)
def test_handlers(handler):
    """In the archive or in this Python."""
    handlers.check_handler(handler, ["own.py", "package/__init__.py", "package/part.py"])


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        ("", "is not module:function"),
        ("/own", "is not module:function"),
        ("gone", "is neither in the archive nor installed"),
        (":handle", "is not module:function"),
        ("own:", "is not module:function"),
        ("own:a-b", "is not module:function"),
        ("/own:handle", "is not module:function"),
        ("../own:handle", "is not module:function"),
        ("a..b:handle", "is not module:function"),
        ("gone:handle", "is neither in the archive nor installed"),
        ("own.part:handle", "is neither in the archive nor installed"),
        ("__main__:handle", "is neither in the archive nor installed"),
    ],
)
def test_handlers_that_are_refused(handler, reason):
    with pytest.raises(ArchiveError, match=reason):
        handlers.check_handler(handler, ["own.py"])
