"""bench.measuring: loads on real servers, by processes of their own."""

from __future__ import annotations

import io
import json
import socket
import threading
import time

import numpy as np
import pytest
from bench.servers import RIGHT, answering, reply, stalling

from mms_handler.archive import packed_reply
from mms_handler.bench import measuring
from mms_handler.bench.measuring import Target, default_processes, measure
from mms_handler.bench.order import Load, Timing
from mms_handler.errors import ServerError

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


# --- the processes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "processes", "clients", "rates", "connections", "first_s"),
    [
        (Load(clients=1), 1, [1], [0], 256, [0]),
        (Load(clients=7), 3, [3, 2, 2], [0] * 3, 85, [0] * 3),
        (Load(clients=2), 5, [1, 1], [0] * 2, 128, [0] * 2),
        (Load(rate=10), 1, [0], [10], 256, [0]),
        (Load(rate=10), 4, [0] * 4, [2.5] * 4, 64, [0, 0.1, 0.2, 0.3]),
        (Load(rate=10), 300, [0] * 300, [10 / 300] * 300, 1, [n / 10 for n in range(300)]),
    ],
)
def test_each_process_makes_a_part(load, processes, clients, rates, connections, first_s):
    """Together they are the load: as many clients, and requests at constant intervals."""
    target = Target("here", 80, REQUEST, EXPECTED)
    orders = measuring._orders(target, load, SECOND, processes)
    assert [order.clients for order in orders] == clients
    assert [order.rate for order in orders] == rates
    assert {order.connections for order in orders} == {connections}
    assert [order.first_s for order in orders] == pytest.approx(first_s)
    for order in orders:
        assert (*order[:4], order.timing) == (*target, SECOND)


@pytest.mark.parametrize(("cores", "processes"), [(1, 1), (4, 1), (7, 1), (8, 2), (64, 16)])
def test_a_process_for_some_cores(monkeypatch, cores, processes):
    monkeypatch.setattr(measuring.os, "sched_getaffinity", lambda pid: range(cores))
    assert default_processes() == processes


def test_a_process_of_the_load_that_ends(monkeypatch):
    """Before it is ready, or after."""
    orders = []
    monkeypatch.setattr(measuring.Order, "encode", lambda order: orders.append(order) or b"no\n")
    with answering(lambda number: RIGHT) as port, pytest.raises(
        ServerError, match="^a process of the load ended early; its error is above$"
    ):
        measured(port, Load(clients=1))
    assert len(orders) == 1
    with pytest.raises(ServerError, match="^a process of the load ended early"):
        measuring._Run(measuring.Measured(Load(clients=1)), None, SECOND)._take(0, io.BytesIO())


def test_what_is_known_is_shown_meanwhile():
    """First nothing; the last time all."""
    counts = []
    with answering(lambda number: RIGHT) as port:
        result = measured(
            port, Load(rate=50), watch=lambda each: counts.append(each.latencies.total_count)
        )
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 50)
    assert len(set(counts)) > 1
    assert result.seconds == 1
    assert 0 < result.rate <= 50


def test_a_server_elsewhere_is_not_measured(monkeypatch):
    monkeypatch.setattr(measuring, "listener", lambda host, port: None)
    with answering(lambda number: RIGHT) as port:
        result = measured(port, Load(rate=20))
    assert result.used is None
    assert result.is_good


def test_a_load_that_is_ended_early():
    """What was measured counts, for as long as it was measured."""

    def interrupt(measured):
        if measured.latencies.total_count >= 10:
            raise KeyboardInterrupt

    with answering(lambda number: RIGHT) as port:
        target = Target("127.0.0.1", port, REQUEST, EXPECTED)
        result, whole = measure(target, Load(rate=50), Timing(0, 30, 5), watch=interrupt)
    assert not whole
    assert 0 < result.seconds < 30
    assert result.rate == pytest.approx(result.measured.in_time / result.seconds)
    assert result.used.front_mb > 1


def test_reports_are_added_up():
    """The time that a process has used before the load counts is not the load's."""
    run = measuring._Run(measuring.Measured(Load(clients=1)), None, SECOND)
    head = {
        "latencies": 3, "late": 1, "in_time": 2, "failures": {"a": 1}, "wrong": 1, "example": "x",
        "cpu_s": 2.0, "last": False,
    }  # fmt: skip

    def take(number, **changes):
        numbers = np.array([0, 5, 5, 7], np.uint32).tobytes()
        stream = io.BytesIO(json.dumps({**head, **changes}).encode() + b"\n" + numbers)
        return run._take(number, stream)

    run.begin(time.monotonic() + 1000)
    assert take(0) is False
    run._counts_s = time.monotonic()
    assert take(0, cpu_s=2.5, example="y", last=True) is True
    assert take(1, cpu_s=0.25) is False
    got = run.measured
    assert (got.latencies.total_count, got.latencies.get_count_at_value(5)) == (9, 6)
    assert got.latencies.get_count_at_value(1) == 3  # no latency is 0
    assert (got.late.total_count, got.late.get_count_at_value(7)) == (3, 3)
    assert (got.in_time, got.failures, got.wrong, got.example) == (6, {"a": 3}, 3, "x")
    assert got.generator_cpu_s == {0: 0.5, 1: 0.25}
