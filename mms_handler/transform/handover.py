"""Hand a part to another process of this machine: its bytes are in a file, which that gets open.

A pipe would take a large part in many pieces, while the process that is to answer it waits.  The
file is written when the part is cut, and handing it over is one message, however large it is.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from typing import Callable

from mms_handler.terminal import write_all
from mms_handler.transform.part import Part


class Files:
    """Files without a name, in memory where the system has that; each is used for many parts.

    To write a new one takes four times as long: the system first has to find memory for it.
    """

    def __init__(self) -> None:
        self._all: list[int] = []  # descriptors
        self._free: list[int] = []

    def ready(self, part: Part) -> ReadyPart:
        """Write the bytes of a part to a file.

        Raises:
            OSError: there is no room for them.
        """
        try:
            file = self._free.pop()
        except IndexError:
            file = _unnamed_file()
            self._all.append(file)
        os.lseek(file, 0, os.SEEK_SET)
        write_all(file, bytes(part.data))
        os.ftruncate(file, len(part.data))
        return ReadyPart(part, file, lambda: self._free.append(file))

    def close(self) -> None:
        """Close all files; no part may be in use any more."""
        while self._all:
            os.close(self._all.pop())


class ReadyPart:
    """A part whose bytes are in a file.

    Attributes:
        head: the part without its bytes.
        close: lets another part use the file.
    """

    def __init__(self, part: Part, file: int, close: Callable[[], None]) -> None:
        """Make one whose bytes were written to ``file``."""
        self.head, self._size = part._replace(data=b""), len(part.data)
        self._file, self.close = file, close

    @property
    def part(self) -> Part:
        """The part with its bytes."""
        return self.head._replace(data=os.pread(self._file, self._size, 0))

    def send(self, connection: Connection) -> None:
        """Send the part to a process, which calls ``receive``."""
        connection.send((self.head, self._size))
        send_handle(connection, self._file, 0)  # the process's id matters on Windows alone


def receive(connection: Connection) -> Part:
    """Receive a part.

    Raises:
        EOFError: there will be no more.
    """
    head: Part
    head, size = connection.recv()
    file = recv_handle(connection)
    try:
        return head._replace(data=mmap.mmap(file, size, prot=mmap.PROT_READ)) if size else head
    finally:
        os.close(file)


def _unnamed_file() -> int:
    """The descriptor of a file that is gone when nobody has it open any more."""
    if hasattr(os, "memfd_create"):  # some builds of Python do not have it
        return os.memfd_create("part")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
