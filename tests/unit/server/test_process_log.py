"""process_log: each line is handed on; only the first ones are kept."""

from __future__ import annotations

import threading

from mms_handler.server.process_log import ProcessLog


def test_each_line_is_passed_on(followed):
    """As it came, also what is not UTF-8."""
    records = []
    followed(b"one\r\n\ntwo  \n\xff\nthree", ProcessLog(records.append))
    assert [record["message"] for record in records] == ["one", "two", "�", "three"]


def test_lines_of_the_access_log_are_kept_apart(followed):
    """They are no records of the log; without an access log they are dropped."""
    records, requests = [], []
    text = b'{"time": "12:00", "status": 200}\none\n'
    followed(text, ProcessLog(records.append, requests.append))
    assert requests == ['{"time": "12:00", "status": 200}']
    followed(text, ProcessLog(records.append))
    assert [record["message"] for record in records] == ["one", "one"]


def test_the_latest_line_with_some_words(followed):
    log = ProcessLog(lambda record: None)
    followed(b"Caused by: a\nx Caused by: b\nother\n", log)
    assert log.text_after("Caused by: ") == "b"
    assert log.text_after("ERROR", within_s=0) is None


def test_a_line_that_comes_later():
    """A process that has ended may still be read."""
    log = ProcessLog(lambda record: None)
    timer = threading.Timer(0.2, log._take, ["Error: no"])
    timer.start()
    assert log.text_after("Error: ", within_s=30) == "no"
    timer.join()


def test_what_clients_can_print_is_not_kept(followed):
    """As soon as Java listens; nothing is waited for then."""
    records = []
    log = ProcessLog(records.append)
    followed(b"Caused by: a\n", log)
    log.forget()
    followed(b"Caused by: b\n", log)
    assert log.text_after("Caused by: ", within_s=1_000) is None
    assert [record["message"] for record in records] == ["Caused by: a", "Caused by: b"]
