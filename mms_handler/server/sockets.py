"""Whether this machine lets a server listen: on a port, and on sockets in a folder."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from mms_handler.errors import ServerError

#: Bytes of a Unix socket's path, with the zero that ends it (unix(7)).
_SOCKET_BYTES = 108


def check_port(host: str, port: int) -> None:
    """Do nothing if this process can listen there; MMS that cannot exits with 0.

    Raises:
        ServerError: it cannot; says why.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
        try:
            probe.bind((host, port))
        except OSError as exc:
            raise ServerError(f"port {port} of {host} cannot be used: {exc.strerror}") from exc


def check_paths(folder: Path) -> None:
    """Do nothing if MMS's sockets can lie in ``folder``; MMS takes a minute to fail otherwise.

    Raises:
        ServerError: their paths are too long.
    """
    longest = folder / "tmp" / ".mms.sock.99999"
    if len(os.fsencode(longest)) >= _SOCKET_BYTES:
        raise ServerError(
            f"the path of the folder for temporary files, {folder.parent}, is too long for "
            "sockets; set TMPDIR to a shorter one"
        )
