"""page: what serve --dev answers about itself and its model."""

from __future__ import annotations

import json

import pytest

from mms_handler import archive
from mms_handler.dev.page import Page
from mms_handler.dev.worker import Reply
from mms_handler.errors import LoadError
from tests.unit.dev.test_dev import ROOT

EXAMPLE = ROOT / "model_archives" / "linear"
SAMPLE = {"contentType": "application/json", "accept": "*/*", "bytes": 8, "text": "[[1, 2]]"}


@pytest.fixture
def page():
    """Of the example ``linear``; ``failure`` has why it does not load."""
    failure = []
    page = Page("linear", EXAMPLE, lambda: failure[0] if failure else None)
    page.failure = failure
    return page


def body(page, path, accept="*/*", ready=True):
    reply = page.answer(path, accept, None, ready)
    assert reply.status == 200
    return reply.body


def test_the_index(page):
    """JSON, unless a browser asks."""
    assert json.loads(body(page, "/"))["name"] == "mms_handler"
    assert body(page, "/", "text/html,*/*;q=0.8").startswith(b"<!doctype html>")
    assert page.answer("/nosuch", "*/*", None, True) is None
    assert page.answer("/ui", "*/*", None, True) == Reply(307, {"Location": "ui/"}, b"")


def test_what_a_client_has(page):
    """It is not sent again until it changes."""
    first = page.answer("/ui/page.js", "*/*", None, True)
    tag = first.headers["ETag"]
    again = page.answer("/ui/page.js", "*/*", tag, True)
    assert (again.status, again.headers["ETag"], again.body) == (304, tag, b"")
    models = page.answer("/ui/models.json", "*/*", None, True).headers["ETag"]
    assert page.answer("/ui/models.json", "*/*", models, False).status == 200


def test_a_model(page):
    """With what its files say."""
    document = json.loads(body(page, "/ui/models.json"))
    assert document["dev"] is True
    (model,) = document["models"]
    (version,) = model["versions"]
    assert (model["name"], version["state"]) == ("linear", "ready")
    assert version["inputs"] == [{"name": "data", "shape": [1, 2]}]
    page.failure.append(LoadError("script: ValueError: not yet (mine.py, line 1)"))
    (version,) = json.loads(body(page, "/ui/models.json", ready=False))["models"][0]["versions"]
    reason = "script: ValueError: not yet (mine.py, line 1)"
    assert (version["state"], version["reason"]) == ("failed", reason)


def test_the_sample_of_an_archive(tmp_path):
    """It is in the archive."""
    sample = tmp_path / "sample.json"
    sample.write_text(SAMPLE["text"])
    mar = tmp_path / "linear.mar"
    archive.pack(EXAMPLE, mar, sample=sample)
    page = Page("linear", mar, lambda: None)
    (version,) = json.loads(body(page, "/ui/models.json"))["models"][0]["versions"]
    assert version["sample"] == SAMPLE


def test_counts(page):
    """Of what was answered, by status and by time."""
    page.counts.counted(lambda: Reply(200, {}, b""))
    page.counts.counted(lambda: Reply(500, {}, b""))
    live = json.loads(body(page, "/ui/live.json"))
    (model,) = live["models"]
    assert model["statuses"] == {"200": 1, "500": 1}
    assert (sum(model["buckets"]), len(model["buckets"])) == (2, len(live["bounds"]) + 1)
    assert (model["model"], model["alive"], model["wanted"]) == ("linear", 1, 1)
