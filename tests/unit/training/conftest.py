"""What the tests of scripts share."""

from __future__ import annotations

import os
import textwrap

import pytest

from mms_handler.training import cluster


@pytest.fixture(autouse=True)
def ports_of_this_process(monkeypatch):
    """Pick ports from a range that no other process of pytest-xdist picks from.

    Between the moment when a port is found free and the moment when it is used, another test
    could take it.
    """
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 8
    first = cluster.LOCAL_PORTS.start + 1500 * process
    monkeypatch.setattr(cluster, "LOCAL_PORTS", range(first, first + 1500))


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
