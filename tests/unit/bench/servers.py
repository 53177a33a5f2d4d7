"""Small HTTP servers that answer, stall, err and hang up as they are asked to."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from typing import Callable, Iterator


def reply(body: bytes, status: bytes = b"200 OK", more: bytes = b"") -> bytes:
    """The bytes of a reply."""
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n"
    return head % (status, more, len(body)) + body


RIGHT = reply(b"[[5]]")


@contextlib.contextmanager
def answering(answer: Callable[[int], bytes]) -> Iterator[int]:
    """A server for the length of a ``with`` block; yields its port.

    Args:
        answer: called with the number of the request, from 0; returns the bytes of the reply.  It
            may sleep: nothing else is answered meanwhile.  b"" closes the connection.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
        ended = threading.Event()
        thread = threading.Thread(target=_answer, args=(listener, answer, ended))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            thread.join()


def _answer(
    listener: socket.socket, answer: Callable[[int], bytes], ended: threading.Event
) -> None:
    count = 0
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        selector.register(listener, selectors.EVENT_READ)
        while not ended.is_set():
            for key, _ in selector.select(0.05):
                if key.fileobj is listener:
                    client = stack.enter_context(listener.accept()[0])
                    selector.register(client, selectors.EVENT_READ)
                    continue
                text = b""
                with contextlib.suppress(ConnectionError):
                    if key.fileobj.recv(1 << 20):
                        count += 1
                        text = answer(count - 1)
                        key.fileobj.sendall(text)
                if not text or b"Connection: close" in text:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()


def stalling(at: int, seconds: float) -> Callable[[int], bytes]:
    """Answers that are right; one request waits, and with it all that come after it."""

    def answer(number: int) -> bytes:
        if number == at:
            time.sleep(seconds)
        return RIGHT

    return answer
