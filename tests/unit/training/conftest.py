"""What the tests of scripts share."""

from __future__ import annotations

import textwrap

import pytest


@pytest.fixture
def script(tmp_path):
    """Write a script and files beside it."""

    def write(source, **beside):
        for name, text in beside.items():
            path = tmp_path / name.replace("__in__", "/")
            path.parent.mkdir(exist_ok=True)
            path.with_suffix(".py").write_text(textwrap.dedent(text))
        path = tmp_path / "entry.py"
        path.write_text(textwrap.dedent(source))
        return path

    return write
