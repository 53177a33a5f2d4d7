"""transform.handover: how parts reach the process that has the model."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile

import pytest

from mms_handler.transform.cutting import records_of
from mms_handler.transform.handover import Files, receive
from mms_handler.transform.part import Options, Part


@pytest.fixture
def pipe():
    there, here = multiprocessing.get_context("spawn").Pipe()
    yield there, here
    here.close()
    there.close()


@pytest.fixture
def files():
    with contextlib.closing(Files()) as files:
        yield files


def part_of(data):
    return Part("in", 3, 7, 40, data, "a/b", "", 50, 9)


def received(pipe, ready):
    """The part as the other process gets it, and its bytes."""
    there, here = pipe
    ready.send(there)
    part = receive(here)
    return part._replace(data=b""), bytes(part.data), part.stream(by_lines=False).read()


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_a_part_reaches_the_process_whole(size, pipe, files):
    """Also one that is larger than what a socket holds at once."""
    data = os.urandom(size)
    ready = files.ready(part_of(data))
    assert received(pipe, ready) == (part_of(b""), data, data)
    assert ready.part == part_of(data)  # it can be sent again


@pytest.mark.parametrize(
    ("split_type", "data"),
    [
        ("Line", b"1\n\n23\r\n4"),
        ("RecordIO", b"\n#\xd7\xce\x03\0\0\0abc\0" * 3),
        ("None", b"1\n2\n"),
    ],
)
def test_the_process_finds_the_same_records(split_type, data, pipe, files):
    options = Options(split_type=split_type)
    there, here = pipe
    files.ready(part_of(data)).send(there)
    part = receive(here)
    expected = list(records_of(part_of(data), options))
    assert len(expected) == {"Line": 3, "RecordIO": 3, "None": 1}[split_type]
    assert list(records_of(part, options)) == expected
    assert list(records_of(part, options)) == expected  # it may be read again


def test_a_file_is_used_again_when_its_part_is_closed(pipe, files):
    first = files.ready(part_of(b"a longer one"))
    second = files.ready(part_of(b"second"))
    first.close()
    in_use = os.listdir("/proc/self/fd")
    third = files.ready(part_of(b"third"))
    assert received(pipe, third)[1:] == (b"third", b"third")
    assert os.listdir("/proc/self/fd") == in_use
    assert received(pipe, second)[1:] == (b"second", b"second")


def test_no_file_stays_open():
    before = os.listdir("/proc/self/fd")
    with contextlib.closing(Files()) as files:
        files.ready(part_of(b"1")).close()
        files.ready(part_of(b"2"))
        files.ready(part_of(b"3"))
    assert os.listdir("/proc/self/fd") == before


def test_a_system_without_files_in_memory(pipe, files, monkeypatch, tmp_path):
    """Such as Python that was built for an old glibc."""
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ready = files.ready(part_of(b"12"))
    assert received(pipe, ready)[1:] == (b"12", b"12")
    assert os.listdir(tmp_path) == []


def test_the_driver_is_gone(pipe):
    there, here = pipe
    there.close()
    with pytest.raises(EOFError):
        receive(here)


def test_the_driver_dies_while_it_sends(pipe):
    there, here = pipe
    there.send((part_of(b""), 5))
    there.close()
    with pytest.raises(EOFError):
        receive(here)
