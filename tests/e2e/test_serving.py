"""A real MMS with real archives, over HTTP."""

from __future__ import annotations

import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from running_mms import EXAMPLES, Front, wait_for

from mms_handler import archive, client

DATA = Path(__file__).parents[1] / "data" / "mnist"


@pytest.fixture(scope="session")
def examples(front) -> Front:
    """``front`` with the examples that need no training."""
    for name in ("gluon_blocks", "transform"):
        archive.pack(EXAMPLES / name, front.store / f"{name}.mar")
        assert front.add(name).status == 200
    return front


@pytest.mark.parametrize(
    ("name", "body", "content_type", "accept", "reply"),
    [
        pytest.param(
            "linear", b"[[1,2]]", "application/json", "*/*", b"[[4.9999918937683105]]", id="json"
        ),
        pytest.param("linear", b"1,2", "text/csv", "*/*", b"[[4.9999918937683105]]", id="csv"),
        pytest.param(
            "linear", b"[[3,4]]", "application/json", "text/csv", b"10.999982\r\n", id="csv back"
        ),
        pytest.param(
            "gluon_blocks",
            b"5.1,3.5,1.4,0.2\n6.3,3.3,6.0,2.5\n",
            "text/csv",
            "*/*",
            b'["setosa", "virginica"]',
            id="a block with an output_fn",
        ),
        pytest.param(
            "transform",
            b'["a great day", "a bad one"]',
            "application/json",
            "*/*",
            b"[1.0, -1.0]",
            id="a transform_fn and a plain python model",
        ),
    ],
)
def test_an_example_answers(examples, name, body, content_type, accept, reply):
    """Each example gives the reply that its README shows."""
    answer = examples.ask(name, body, content_type, accept)
    assert (answer.status, answer.body) == (200, reply)


@pytest.mark.parametrize("rows", [1, 100, 101, 200])
def test_a_reply_has_as_many_rows_as_the_request(front, mnist, rows):
    """A Module saved with a batch of 100 predicts any number of rows, in their order."""
    lines = (DATA / "seven.csv").read_text().splitlines()
    body = "\n".join(lines[i % len(lines)] for i in range(rows))
    answer = front.ask(mnist, body.encode(), "text/csv")
    predictions = json.loads(answer.body)
    assert len(predictions) == rows
    for row in predictions:
        assert max(row) == row[7]
        assert row[7] == pytest.approx(0.15485261, abs=1e-6)


def test_an_image_in_its_own_shape(front, mnist):
    """One 1x28x28 image is one row."""
    answer = front.ask(mnist, (DATA / "four.json").read_bytes())
    ((*row,),) = json.loads(answer.body)
    assert max(row) == row[9] == pytest.approx(0.13636994, abs=1e-6)


@pytest.mark.parametrize(
    ("body", "content_type", "accept", "status", "words"),
    [
        pytest.param(b"[[1,2]", "application/json", "*/*", 400, "not valid", id="truncated"),
        pytest.param(b"", "application/json", "*/*", 400, "the body is empty", id="empty"),
        pytest.param(b"\xff\xfe", "text/csv", "*/*", 400, "UTF-8", id="not text"),
        pytest.param(b"[[1,2,3]]", "application/json", "*/*", 400, "(N, 2)", id="wrong width"),
        pytest.param(b"x", "image/gif", "*/*", 415, "application/json", id="unknown type"),
        pytest.param(b"[[1,2]]", "application/json", "image/png", 406, "text/csv", id="accept"),
        pytest.param(
            b"a=1&b=2", "application/x-www-form-urlencoded", "*/*", 415, "a, b", id="a form"
        ),
    ],
)
def test_a_bad_request_gets_a_clear_error(front, body, content_type, accept, status, words):
    """The client's fault gets a 4xx with a message, and the next request is answered."""
    answer = front.ask("linear", body, content_type, accept)
    fault = json.loads(answer.body)
    assert (answer.status, fault["code"]) == (status, status)
    assert words in fault["message"]
    assert fault["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.body.decode()
    assert front.ask("linear", b"[[1,2]]").body == b"[[4.9999918937683105]]"


BROKEN = {
    "syntax_error": ("def model_fn(model_dir)\n    pass", "SyntaxError", "line 1"),
    "missing_import": ("import math\nimport no_such_library", "no_such_library", "line 2"),
    "raising_model_fn": (
        "def model_fn(model_dir):\n    raise ValueError('weights are gone')",
        "ValueError: weights are gone",
        "line 2",
    ),
    "unusable_model": ("def model_fn(model_dir):\n    return 5", "model_fn returned an int", ""),
    "strange_signature": (
        "def model_fn(model_dir): pass\ndef transform_fn(a, b, c, d, e): pass",
        "there is nothing to pass as e",
        "",
    ),
    "leaving": ("import sys\nsys.exit(0)", "SystemExit", "line 2"),
    "nothing_to_load": ("# all defaults, and no artifacts", "model-symbol.json", ""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_script_is_refused(front, tmp_path, name):
    """POST /models fails at once, the log has the cause in one line, and other models answer."""
    source, cause, place = BROKEN[name]
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text(source)
    archive.pack(tmp_path, front.store / f"{name}.mar")
    answer = front.add(name)
    assert answer.status == 500
    lines = front.log.read_text().splitlines()
    line = next(line for line in lines if f"cannot load model {name}:" in line)
    assert cause in line
    assert place in line
    # MMS answers before it forgets the model.
    wait_for(lambda: client.describe(front.management, name).status == 404, 30)
    assert front.ask("linear", b"[[1,2]]").status == 200


COUNTS_ITS_BATCH = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept, context):
    if data == "[]":
        raise ValueError("nothing there")
    return str(len(context.metrics.request_ids)), "text/plain"
"""


def test_one_bad_request_among_eight(front, tmp_path):
    """In a batch of eight, seven requests get 200 and only the bad one gets 400."""
    answers = _in_one_batch(front, "linear", [b"[[1,2]]"] * 3 + [b"[[1,2"] + [b"[[1,2]]"] * 4)
    assert [answer.status for answer in answers] == [200] * 3 + [400] + [200] * 4
    assert {answer.body for answer in answers if answer.status == 200} == {
        b"[[4.9999918937683105]]"
    }


def test_an_error_of_a_script_affects_one_request(front, tmp_path):
    """The eight requests are one batch, and only one of them gets the script's error."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text(COUNTS_ITS_BATCH)
    archive.pack(tmp_path, front.store / "counting.mar")
    answers = _in_one_batch(front, "counting", [b"[1]"] * 5 + [b"[]"] + [b"[2]"] * 2)
    assert [answer.status for answer in answers] == [200] * 5 + [500] + [200] * 2
    assert {answer.body for answer in answers if answer.status == 200} == {b"8"}
    assert "nothing there" not in answers[5].body.decode()


def _in_one_batch(front, name, bodies):
    """Send the bodies to a copy of a model that waits for that many requests."""
    copy = f"{name}_{len(bodies)}"
    answer = front.add(name, model_name=copy, batch_size=len(bodies), max_batch_delay=5000)
    assert answer.status == 200
    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(lambda body: front.ask(copy, body), bodies))


def test_csv_has_a_line_for_each_row(front):
    """A CSV reply has as many lines as the request."""
    answer = front.ask("linear", b"1,2\n3,4\n5,6\n", "text/csv", "text/csv")
    lines = list(csv.reader(io.StringIO(answer.body.decode())))
    assert [float(value) for (value,) in lines] == pytest.approx([5, 11, 17], abs=1e-4)
