"""deadline: calls are interrupted or not started when time is up; a script's alarm is kept."""

from __future__ import annotations

import signal
import time

import pytest

from mms_handler.errors import TimedOut
from mms_handler.worker.mms.deadline import Deadline


@pytest.fixture(autouse=True)
def restored_alarm():
    """Reset the timer and the handler of SIGALRM after a test."""
    handler = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, handler)


def forever():
    while True:
        pass


def stubborn():
    """Catch every exception and go on, three times."""
    for _ in range(3):
        try:
            forever()
        except BaseException:
            continue
    return "gave up"


def test_a_call_in_time_returns_its_result():
    """No timer stays set."""
    deadline = Deadline(10)
    with deadline:
        assert deadline.call(lambda a, b: a + b, 1, 2) == 3
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.parametrize(
    ("timeout_s", "limit"),
    [
        pytest.param(60, "58", id="2 s before a long limit"),
        pytest.param(20, "18", id="where 2 s are a tenth"),
        pytest.param(3, "2.7", id="a tenth before a short one"),
    ],
)
def test_the_limit_is_shorter_than_mms_limit(timeout_s, limit):
    """The message names the limit."""
    deadline = Deadline(timeout_s)
    with deadline:
        deadline._ends_s = time.monotonic()  # as if the time had passed
        with pytest.raises(
            TimedOut, match=rf"not started: its batch used up the limit of {limit} s"
        ):
            deadline.call(forever)


def test_python_code_is_interrupted():
    """The exception's cause shows where the code was when time was up.

    The upper bound is for processor time, which other processes do not take from a busy loop.
    """
    deadline = Deadline(0.2)
    start_s, processor_start_s = time.monotonic(), time.process_time()
    with deadline, pytest.raises(TimedOut, match="did not answer within 0.18 s") as error:
        deadline.call(forever)
    assert time.monotonic() - start_s >= 0.18
    assert time.process_time() - processor_start_s < 1
    assert error.value.__cause__.__traceback__.tb_next is not None


def test_what_is_no_call_is_not_interrupted():
    """Time that is up between two calls ends neither of them."""
    deadline = Deadline(0.2)
    with deadline:
        assert deadline.call(lambda: 1) == 1
        time.sleep(0.3)
        with pytest.raises(TimedOut, match="not started"):
            deadline.call(lambda: 2)


def test_a_sleeping_call_is_interrupted():
    """Time that passes in a system call counts."""
    deadline = Deadline(0.2)
    with deadline, pytest.raises(TimedOut, match="^the model did not answer within 0.18 s$"):
        deadline.call(lambda: time.sleep(5))


def test_an_interruption_that_a_script_wraps_is_a_timeout():
    """A script may raise its own error from the interruption; the client still gets TimedOut."""

    def wrap():
        try:
            forever()
        except BaseException as exc:
            raise KeyError("mine") from exc

    deadline = Deadline(0.2)
    with deadline, pytest.raises(TimedOut, match="^the model did not answer within 0.18 s$"):
        deadline.call(wrap)


def test_a_script_that_continues_is_interrupted_again():
    """Its final result counts, because MMS still waits for it."""
    deadline = Deadline(0.5)
    with deadline:
        assert deadline.call(stubborn) == "gave up"


def test_later_requests_of_the_batch_are_not_started():
    """The next batch has its own time."""
    deadline = Deadline(0.5)
    with deadline:
        for message in ("did not answer", "not started", "not started"):
            with pytest.raises(TimedOut, match=message):
                deadline.call(forever)
    with deadline:
        assert deadline.call(lambda: 1) == 1


def test_other_exceptions_are_passed_on():
    """Before time is up, an error is the script's own."""
    deadline = Deadline(10)
    with deadline, pytest.raises(ZeroDivisionError, match="division by zero"):
        deadline.call(lambda: 1 / 0)


def test_between_calls_nothing_is_interrupted():
    """The alarm is ignored outside of a call."""
    deadline = Deadline(0.1)
    with deadline:
        end_s = time.monotonic() + 0.3
        while time.monotonic() < end_s:
            pass


def test_a_scripts_timer_is_kept(caplog):
    """It stays as the script set it, and the log says so once."""
    deadline = Deadline(10)
    for _ in range(2):
        with deadline:
            deadline.call(lambda: signal.setitimer(signal.ITIMER_REAL, 50))
        assert 40 < signal.getitimer(signal.ITIMER_REAL)[0] <= 50
    assert caplog.messages == [
        "the script uses SIGALRM: its requests have only MMS's own time limit"
    ]


def test_a_scripts_handler_is_kept(caplog):
    """It is not called when the deadline passes, and it is still installed afterwards."""
    calls = []

    def handler(number, frame):
        calls.append(number)

    deadline = Deadline(0.5)
    signal.signal(signal.SIGALRM, handler)
    with deadline:
        end_s = time.monotonic() + 0.7
        deadline.call(lambda: [None for _ in iter(lambda: time.monotonic() < end_s, False)])
    assert (calls, signal.getsignal(signal.SIGALRM)) == ([], handler)
    assert len(caplog.messages) == 1
