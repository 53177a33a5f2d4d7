"""deadline: what is interrupted, what is not started, and whose alarm it is."""

from __future__ import annotations

import signal
import time

import pytest

from mms_handler.errors import TimedOut
from mms_handler.worker.mms.deadline import Deadline


@pytest.fixture(autouse=True)
def alarm_as_before():
    """Nobody's alarm is set before and after a test."""
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def forever():
    while True:
        pass


def stubborn():
    """Takes no exception for an answer, three times."""
    for _ in range(3):
        try:
            forever()
        except BaseException:
            continue
    return "gave up"


def test_what_is_in_time_is_returned():
    """And no alarm is left."""
    deadline = Deadline(10)
    with deadline:
        assert deadline.call(lambda left, right: left + right, 1, 2) == 3
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.parametrize(
    ("timeout_s", "limit"),
    [
        pytest.param(60, "58", id="2 s before a long limit"),
        pytest.param(20, "18", id="where both are the same"),
        pytest.param(3, "2.7", id="a tenth before a short one"),
    ],
)
def test_the_limit_is_before_mms_limit(timeout_s, limit):
    """The message names it."""
    deadline = Deadline(timeout_s)
    with deadline:
        deadline._ends_s = time.monotonic()  # as if the time had passed
        with pytest.raises(TimedOut, match=rf"not started: its batch took all of its {limit} s"):
            deadline.call(forever)


def test_python_code_is_interrupted():
    """The exception has the place where the time was up."""
    deadline = Deadline(0.2)
    started = time.monotonic()
    with deadline, pytest.raises(TimedOut, match="did not answer within 0.18 s") as caught:
        deadline.call(forever)
    assert 0.18 <= time.monotonic() - started < 1
    assert caught.value.__cause__.__traceback__.tb_next is not None


def test_a_call_that_sleeps_is_interrupted():
    """Waiting counts."""
    deadline = Deadline(0.2)
    with deadline, pytest.raises(TimedOut):
        deadline.call(lambda: time.sleep(5))


def test_a_script_may_turn_the_interruption_into_its_own_error():
    """The time is up all the same."""

    def wraps():
        try:
            forever()
        except BaseException as exc:
            raise KeyError("mine") from exc

    deadline = Deadline(0.2)
    with deadline, pytest.raises(TimedOut):
        deadline.call(wraps)


def test_a_script_that_goes_on_is_interrupted_again():
    """And what it gives in the end is taken: MMS is still waiting."""
    deadline = Deadline(0.1)
    with deadline:
        assert deadline.call(stubborn) == "gave up"


def test_what_comes_later_in_the_batch_is_not_begun():
    """The next batch has its own time."""
    deadline = Deadline(0.1)
    with deadline:
        for words in ("did not answer", "not started", "not started"):
            with pytest.raises(TimedOut, match=words):
                deadline.call(forever)
    with deadline:
        assert deadline.call(lambda: 1) == 1


def test_other_exceptions_pass():
    """Before the time is up an error is the script's own."""
    deadline = Deadline(10)
    with deadline, pytest.raises(ZeroDivisionError):
        deadline.call(lambda: 1 / 0)


def test_between_calls_nothing_is_interrupted():
    """An alarm outside of a call is nobody's."""
    deadline = Deadline(0.1)
    with deadline:
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            pass


def test_an_alarm_of_the_scripts_is_left_alone(caplog):
    """It stays as it was set, and the log says so once."""
    deadline = Deadline(0.1)
    for _ in range(2):
        with deadline:
            deadline.call(lambda: signal.setitimer(signal.ITIMER_REAL, 50))
        assert 40 < signal.getitimer(signal.ITIMER_REAL)[0] <= 50
    assert caplog.messages == [
        "the script uses SIGALRM: its requests have only MMS's own time limit"
    ]


def test_a_handler_of_the_scripts_is_left_alone(caplog):
    """It is not called for our time, and it is there afterwards."""
    rung = []

    def handler(number, frame):
        rung.append(number)

    deadline = Deadline(0.1)
    signal.signal(signal.SIGALRM, handler)
    with deadline:
        until = time.monotonic() + 0.3
        deadline.call(lambda: [None for _ in iter(lambda: time.monotonic() < until, False)])
    assert (rung, signal.getsignal(signal.SIGALRM)) == ([], handler)
    assert len(caplog.messages) == 1
