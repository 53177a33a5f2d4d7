"""GPUs that the installed MXNet cannot use."""

from __future__ import annotations

from pathlib import Path

import pytest

from mms_handler.server import gpus


@pytest.fixture
def path(tmp_path):
    """A PATH with an nvidia-smi."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 0\n")
    program.chmod(0o755)
    return str(tmp_path)


def test_mxnet_of_this_environment_cannot_use_them(path):
    assert gpus.are_useless(path)


def test_without_gpus_nothing_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(gpus, "_library", lambda: pytest.fail("looked"))
    assert not gpus.are_useless(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "useless"),
    [(b"\0libcudart.so.11.0\0", False), (b"\0libcuda.so.1\0", False), (b"\0libcurl.so\0", True)],
)
def test_a_build_for_gpus_needs_libraries_of_cuda(path, tmp_path, monkeypatch, content, useless):
    library = tmp_path / "libmxnet.so"
    library.write_bytes(bytes(9_999) + content)
    monkeypatch.setattr(gpus, "_library", lambda: library)
    assert gpus.are_useless(path) is useless


@pytest.mark.parametrize("name", ["missing.so", "empty.so"])
def test_a_library_that_cannot_be_read_is_left_to_mxnet(path, tmp_path, monkeypatch, name):
    Path(tmp_path, "empty.so").touch()
    monkeypatch.setattr(gpus, "_library", lambda: tmp_path / name)
    assert not gpus.are_useless(path)
