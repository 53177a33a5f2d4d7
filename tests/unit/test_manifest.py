"""manifest: what is not one is refused, whatever it is instead."""

from __future__ import annotations

import json

import pytest

from mms_handler import manifest
from mms_handler.errors import ArchiveError

MODEL = {"modelName": "m", "handler": "mms_handler.service:handle"}


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(b"{", "JSONDecodeError", id="not JSON"),
        pytest.param(b"\xff", "UnicodeDecodeError", id="not UTF-8"),
        pytest.param({"model": MODEL, "mms_handler": []}, "AttributeError", id="a list"),
        pytest.param({"model": MODEL, "mms_handler": "x"}, "AttributeError", id="a text"),
        pytest.param(
            {"model": MODEL, "mms_handler": {"sample": [1]}}, "TypeError", id="a list for a sample"
        ),
        pytest.param({"model": []}, "TypeError", id="a list for the model"),
        pytest.param({"mms_handler": {}}, "KeyError", id="no model"),
        pytest.param([MODEL], "TypeError", id="a list for all"),
        pytest.param(b"[" * 100_000, "RecursionError", id="nested too deep"),
    ],
)
def test_what_is_no_manifest(content, error):
    """One error of ours, with the reason, for each exception of Python's."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(ArchiveError) as caught:
        manifest.read(text)
    message = str(caught.value)
    assert message.startswith(f"MAR-INF/MANIFEST.json is not a valid manifest: {error}(")
