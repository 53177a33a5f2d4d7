"""training.metrics: the metrics in a line, by SageMaker's definitions and by the usual patterns."""

from __future__ import annotations

import json
import math

import pytest

from mms_handler.errors import TrainingError
from mms_handler.training import metrics
from mms_handler.training.metrics import Reading


@pytest.mark.parametrize(
    ("line", "reading"),
    [
        pytest.param(
            "Epoch[0] Train-accuracy=0.930000", (0, None, [("Train-accuracy", 0.93)]), id="fit"
        ),
        pytest.param(
            "2018-05-08 10:20:30,123 INFO - root - Epoch[12] Validation-top_k_accuracy_5=0.5",
            (12, None, [("Validation-top_k_accuracy_5", 0.5)]),
            id="fit, in the format of the legacy containers",
        ),
        pytest.param("Epoch[3] Time cost=1.234", (3, None, [("Time cost", 1.234)]), id="time"),
        pytest.param(
            "Epoch[0] Batch [20-40]\tSpeed: 1764.83 samples/sec\taccuracy=0.400000",
            (0, 40, [("Speed", 1764.83), ("accuracy", 0.4)]),
            id="Speedometer",
        ),
        pytest.param(
            "Iter[1] Batch [20]\tSpeed: 1764.83 samples/sec",
            (1, 20, [("Speed", 1764.83)]),
            id="Speedometer without a metric",
        ),
        pytest.param(
            "[Epoch 3] Finished in 1.2s, train accuracy: 0.95, validation softmaxce: 0.25",
            (3, None, [("train accuracy", 0.95), ("validation softmaxce", 0.25)]),
            id="gluon's Estimator, an epoch",
        ),
        pytest.param(
            "[Epoch 0][Batch 5][Samples 80] time/interval: 0.123s accuracy: 0.5000",
            (0, 5, [("time/interval", 0.123), ("accuracy", 0.5)]),
            id="gluon's Estimator, a batch",
        ),
        pytest.param(
            "[Epoch 3] training: accuracy=0.97",
            (3, None, [("training accuracy", 0.97)]),
            id="gluon's examples",
        ),
        pytest.param(
            "epoch 3: loss 0.12, accuracy 0.9", (3, None, [("loss", 0.12), ("accuracy", 0.9)]),
            id="words",
        ),
        pytest.param(
            "Epoch 5, train loss: nan, val acc 93.5%",
            (5, None, [("train loss", math.nan), ("val acc", 93.5)]),
            id="per cent, and not a number",
        ),
        pytest.param("epoch=3 lr=1e-3 loss=.5.", (3, None, [("lr", 0.001), ("loss", 0.5)]), id="="),
        pytest.param("Epoch 1/10", (1, None, []), id="Keras, its epoch"),
        pytest.param(
            "63/63 [====] - 1s 5ms/step - loss: 0.1234 - val_loss: 2e-3",
            (7, 63, [("loss", 0.1234), ("val_loss", 0.002)]),
            id="Keras, after an epoch",
        ),
        pytest.param(
            " 45%|####5    | 45/100 [00:01<00:01, 40.1it/s, loss=0.12]",
            (7, 45, [("loss", 0.12)]),
            id="tqdm",
        ),
        pytest.param("epoch 1, loss=0.5, eta: 12", (1, None, [("loss", 0.5)]), id="time to go"),
        pytest.param("step 100: loss=-0.3", (7, 100, [("loss", -0.3)]), id="a step"),
        pytest.param("loss=3", (None, None, []), id="neither epoch nor step"),
        pytest.param("epoch 3 at 10:20:30: took 3:04", (3, None, []), id="times of day"),
        pytest.param("saved epoch 3 to s3://bucket/m:1", (3, None, []), id="an address"),
        pytest.param("epoch 3, version=1.2.3, hash=12ab", (3, None, []), id="no numbers"),
    ],
)  # fmt: skip
def test_the_usual_patterns(line, reading):
    """Epoch, step and values; a line that only names its step belongs to the epoch before."""
    assert repr(metrics.usual(line, 7)) == repr(Reading(*reading))
    if reading[2]:
        assert metrics.has_hint(line.encode())


def write(folder, content):
    path = folder / "definitions.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_metric_definitions(tmp_path):
    """The first group is the value, or the whole match; what is no number is left out."""
    path = write(
        tmp_path,
        [
            {"Name": "loss", "Regex": "loss is (.+?);"},
            {"Name": "any", "Regex": r"\d+"},
            {"Name": "optional", "Regex": "(x)?y"},
        ],
    )
    loss, number, optional = metrics.read_definitions(path)
    line = "loss is 0.5; y loss is 1e-3; loss is bad; 7"
    assert metrics.defined(loss, line) == [("loss", 0.5), ("loss", 0.001)]
    assert metrics.defined(number, "7 and 8") == [("any", 7), ("any", 8)]
    assert metrics.defined(optional, line) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"^cannot read the metric definitions .*definitions\.json: "),
        ({}, r"are a JSON dict, but must be a list: \[\{\"Name\": "),
        ([{"Name": "a", "Regex": "a"}, 3], r"^metric definition 1 of .*Name and Regex: 3$"),
        ([{"Name": "a"}], "Name and Regex: "),
        ([{"Name": "", "Regex": "a"}], "Name and Regex: "),
        ([{"Name": "a", "Regex": "(b"}],
         r"the Regex of a is not a regular expression: .* at position 0: \(b$"),
    ],
)  # fmt: skip
def test_definitions_that_are_not_valid(tmp_path, content, message):
    with pytest.raises(TrainingError, match=message):
        metrics.read_definitions(write(tmp_path, content))


def test_definitions_that_are_not_there(tmp_path):
    with pytest.raises(TrainingError, match="No such file"):
        metrics.read_definitions(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("name", "direction", "rank"),
    [
        ("Train-cross-entropy", "lower", 0),
        ("val_loss", "lower", 0),
        ("Validation-accuracy", "higher", 1),
        ("F1", "higher", 1),
        ("gamma", None, 2),
        ("Time cost", "lower", 3),
        ("Speed", "higher", 3),
    ],
)
def test_what_a_name_says(name, direction, rank):
    assert (metrics.better(name), metrics.rank(name)) == (direction, rank)


def test_lines_without_metrics():
    """They are passed over before any pattern is tried."""
    assert not metrics.has_hint(b"loss=0.5\nsaving to a/b\n")


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        (b"Epoch 3: loss 0.1", True),
        (b"[BATCH 7] loss=0.1", True),
        (b"step 5, loss 0.1", True),
        (b"Iter: 4 loss 0.1", True),
        (b"7/10 [=====>    ] loss: 0.1", True),
        (b"loading data", False),
        (b"7/10", False),
        (b"[info] ready", False),
    ],
)
def test_lines_that_may_have_a_metric(output, hint):
    """The others are passed over, since most have none."""
    assert metrics.has_hint(output) is hint
