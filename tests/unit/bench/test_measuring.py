"""bench.measuring: loads on real servers, by processes of their own."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from bench.servers import RIGHT, answering, reply, stalling

from mms_handler.archive import packed_reply
from mms_handler.bench.measuring import Target, measure
from mms_handler.bench.order import Load, Timing

REQUEST = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\n[[1]]"
EXPECTED = {"status": 200, "content_type": "application/json", "body": "[[5]]"}


SECOND = Timing(warmup_s=0, seconds=1, timeout_s=5)


def measured(port, load, timing=SECOND, **options):
    target = Target("127.0.0.1", port, REQUEST, EXPECTED)
    result, whole = measure(target, load, timing, **options)
    assert whole
    return result


@pytest.mark.parametrize("processes", [1, 2])
def test_clients_send_one_request_after_the_other(processes):
    """Each reply is counted once, and there are no more connections than clients."""
    numbers = []
    with answering(lambda number: numbers.append(number) or RIGHT) as port:
        result = measured(port, Load(clients=3), processes=processes)
    assert result.is_good
    assert len(numbers) - 3 <= result.measured.latencies.total_count <= len(numbers)
    assert 0 < result.rate <= len(numbers)
    assert 0 < result.measured.ms(50) <= result.measured.ms(99) <= result.measured.ms(100)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_rate_is_kept(processes):
    numbers = []
    with answering(lambda number: numbers.append(number) or RIGHT) as port:
        result = measured(port, Load(rate=200), processes=processes)
    assert result.is_good
    assert len(numbers) == 200 == result.measured.latencies.total_count


def test_a_stall_shows_in_the_percentiles_of_a_rate():
    """Of the two seconds one is a stall; each request that was planned meanwhile has waited."""
    with answering(stalling(at=100, seconds=1)) as port:
        result = measured(port, Load(rate=200), Timing(0, 2, 5))
    assert result.measured.latencies.total_count == 400
    assert result.measured.ms(99) > 900
    assert result.measured.ms(75) > 400  # a quarter waited for more than half of the stall
    assert result.measured.errors == 0


def test_a_stall_hides_from_the_percentiles_of_clients():
    """Which is why there are rates: the only client sends nothing while it waits."""
    with answering(stalling(at=150, seconds=1)) as port:
        result = measured(port, Load(clients=1), Timing(0, 3, 5))
    assert result.measured.latencies.total_count > 150
    assert result.measured.ms(99) < 900
    assert result.measured.ms(100) > 900


def test_what_comes_during_the_warm_up_does_not_count():
    """The first second is a stall, and wrong."""

    def answer(number):
        if number == 0:
            time.sleep(0.8)
            return reply(b"wrong")
        return RIGHT

    with answering(answer) as port:
        result = measured(port, Load(clients=1), Timing(0.5, 1, 5))
    assert result.is_good
    assert result.measured.ms(100) < 700


def test_wrong_replies_are_counted():
    with answering(lambda number: reply(b"[[6]]") if number % 4 == 3 else RIGHT) as port:
        result = measured(port, Load(rate=100))
    assert not result.is_good
    assert (result.measured.wrong, result.measured.example) == (25, "[[6]]")
    assert result.measured.latencies.total_count == 75


def test_errors_are_counted_by_their_reason():
    replies = [RIGHT, reply(b"", b"503 Busy"), b"", reply(b"[[5]]", more=b"Connection: close\r\n")]
    with answering(lambda number: replies[number % 4]) as port:
        result = measured(port, Load(rate=80))
    assert result.measured.failures == {"status 503": 20, "connection closed": 20}
    assert result.measured.latencies.total_count == 40


def test_a_reply_that_does_not_come_is_an_error():
    with answering(stalling(at=0, seconds=3)) as port:
        result = measured(port, Load(clients=1), Timing(0, 1, 1))
    assert result.measured.failures == {"no reply within 1 s": 1}


@pytest.mark.parametrize("load", [Load(clients=2), Load(rate=50)], ids=str)
def test_nothing_listens(load):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    result = measured(port, load)
    assert set(result.measured.failures) == {"connection refused"}
    assert 20 <= result.measured.errors <= 50
    assert result.rate == 0


def test_a_large_request_and_a_large_reply():
    """More than the sockets' buffers hold."""
    body = b"[[%s5]]" % (b" " * 5_000_000)
    request = b"POST / HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000
    expected = packed_reply.encode(200, "application/json", body)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            client, _ = listener.accept()
            with client:
                while data := client.recv(len(request)):
                    left = len(request) - len(data)
                    while left:
                        left -= len(client.recv(left))
                    client.sendall(reply(body))

        thread = threading.Thread(target=answer)
        thread.start()
        target = Target("127.0.0.1", listener.getsockname()[1], request, expected)
        result, _ = measure(target, Load(clients=1), Timing(0, 3, 10))
        thread.join()
    assert result.is_good
    assert result.measured.latencies.total_count >= 2


def test_the_processes_of_the_server_are_measured():
    """This process listens; it has some memory and uses some time."""

    def answer(number):
        started = time.thread_time()
        while time.thread_time() < started + 0.02:
            pass
        return RIGHT

    with answering(answer) as port:
        result = measured(port, Load(clients=4), Timing(0, 2, 5))
    assert 0.03 < result.used.front_cpu_s < 3
    assert result.used.front_mb > 10
