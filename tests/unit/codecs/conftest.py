"""Every test of the codecs runs with the compiled core, where it is installed, and without."""

from __future__ import annotations

import pytest

from mms_handler.codecs import compiled

WAYS = ["python", *(["compiled"] if compiled.core else [])]


@pytest.fixture(params=WAYS, autouse=True)
def way(request, monkeypatch):
    """Where numbers are read and written."""
    if request.param == "python":
        monkeypatch.setattr(compiled, "core", None)
    return request.param
