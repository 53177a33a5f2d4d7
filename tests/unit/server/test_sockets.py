"""sockets: where a server can listen."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mms_handler.errors import ServerError
from mms_handler.server import sockets


def test_a_port_in_use():
    """MMS exits with 0 if it cannot bind, so the port is checked before."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ServerError) as caught:
            sockets.check_port("127.0.0.1", port)
    assert str(caught.value) == f"port {port} of 127.0.0.1 cannot be used: Address already in use"


def test_a_port_of_connections_that_have_ended():
    """The system keeps them for a minute; a server can start again at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:  # may reuse addresses, as Java's do
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            listener.accept()[0].close()  # the side that closes first keeps it
            assert client.recv(1) == b""
    sockets.check_port("127.0.0.1", port)
    sockets.check_port("127.0.0.1", port)  # once closed, it is free, and the check leaves it free
    sockets.check_port("127.0.0.1", port)


def test_an_address_of_another_machine():
    """This machine cannot listen on an address that is not its own."""
    with pytest.raises(ServerError, match=r"port 8080 of 192\.0\.2\.1 cannot be used: "):
        sockets.check_port("192.0.2.1", 8080)


@pytest.mark.parametrize(("length", "fits"), [(87, True), (88, False)])
def test_sockets_need_short_paths(length, fits):
    """The longest path has 107 bytes; the message for a longer one says what to do."""
    folder = Path("/" + "t" * (length - 3) + "/x")
    if fits:
        sockets.check_paths(folder)
        return
    with pytest.raises(ServerError, match=r"too long for sockets; set TMPDIR to a shorter one"):
        sockets.check_paths(folder)
