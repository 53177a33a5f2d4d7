"""The command replay: what it refuses before it sends anything."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from mms_handler.cli import group
from mms_handler.errors import ArchiveError, ServerError
from mms_handler.replay import Report, Target, read, replay

LINE = {
    "captureData": {"endpointInput": {"data": "[]", "encoding": "JSON"}},
    "eventMetadata": {"eventId": "1", "inferenceTime": "2026-11-27T10:00:00Z"},
}


def lines(*models: str) -> str:
    return "".join(json.dumps({**LINE, "mmsHandler": {"model": model}}) + "\n" for model in models)


def run(*words: object):
    return CliRunner().invoke(group, ["replay", *map(str, words)])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        pytest.param((), "Missing option '--against'", id="no model"),
        pytest.param(("--against", "nothing.mar"), "there is no such file or folder", id="no file"),
        pytest.param(("--against", "http://h", "--clients", "0"), "0 is not in the range", id="0"),
    ],
)
def test_wrong_usage(tmp_path, words, reason):
    (tmp_path / "a.jsonl").write_text(lines("iris"))
    result = run(tmp_path, *words)
    assert result.exit_code == 2
    assert reason in result.output


def test_no_predictions_of_the_model(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines("iris"))
    result = run(tmp_path, "--against", "http://127.0.0.1:1", "--model", "digits")
    assert result.exit_code == 1
    assert "has no predictions of the model digits" in result.output


def test_predictions_of_two_models_for_one(tmp_path):
    """Nothing of the second is sent."""
    (tmp_path / "a.jsonl").write_text(lines("iris", "digits"))
    predictions = read([tmp_path / "a.jsonl"])
    with pytest.raises(ArchiveError, match="are of iris and of digits; choose those of one model"):
        replay(predictions, Target("http://127.0.0.1:1/predictions/iris"), Report(0))


@pytest.mark.parametrize("url", ["ftp://h/a", "http:///a"])
def test_no_address_of_a_server(url):
    with pytest.raises(ServerError, match="is not the address of a server"):
        replay([], Target(url), Report(0))


@pytest.mark.parametrize(
    ("url", "model", "path"),
    [
        ("http://h", "iris", "/predictions/iris"),
        ("http://h/", "a b/c", "/predictions/a%20b%2Fc"),
        ("http://h", "", "/invocations"),
        ("http://h/invocations?model_name=x", "iris", "/invocations?model_name=x"),
    ],
)
def test_the_path_of_a_prediction(tmp_path, url, model, path):
    """The URL's own, or that of the model of then."""
    (tmp_path / "a.jsonl").write_text(lines(model))
    (captured,) = read([tmp_path / "a.jsonl"])
    assert Target(url).path(captured) == path
