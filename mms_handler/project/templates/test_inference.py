"""The trained model answers as over HTTP.  Train it before: see README.md."""

import json
from pathlib import Path

import pytest

pytest_plugins = ["mms_handler.pytest_plugin"]  # brings the fixture mms_model
HERE = Path(__file__).parent


@pytest.fixture
def mms_model_path():
    """The model to load: a folder, or a .mar."""
    return HERE / "model"


@pytest.fixture
def mms_model_script():
    """The script to use with it, where you edit it."""
    return HERE / "code"


def test_the_sample(mms_model):
    reply = mms_model.answer((HERE / "sample.csv").read_text(), content_type="text/csv")
    assert (reply.status, reply.content_type) == (200, "application/json")
    assert json.loads(reply.body) == ["banana", "cherry"]


def test_json(mms_model):
    assert json.loads(mms_model.answer("[[8, 5.5]]").body) == ["lemon"]


def test_a_bad_body(mms_model):
    reply = mms_model.answer("long,wide", content_type="text/csv")
    assert reply.status == 400
