"""training.grid: which runs a sweep has."""

from __future__ import annotations

import pytest

from mms_handler.errors import TrainingError
from mms_handler.training import grid


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.1,0.01", ["0.1", "0.01"]),
        ("5", ["5"]),
        ("adam, sgd ,1e-3", ["adam", "sgd", "1e-3"]),
        ("[1,2]", ["[1,2]"]),
        ("[1,2],[3, [4,5]] , []", ["[1,2]", "[3, [4,5]]", "[]"]),
        ('{"a":1,"b":[2,3]},{}', ['{"a":1,"b":[2,3]}', "{}"]),
        ('"a,b","c"', ['"a,b"', '"c"']),
        ('"",x', ['""', "x"]),
        ("true,null,none", ["true", "null", "none"]),
        ("10.0.0.1,2x", ["10.0.0.1", "2x"]),
        ("a b,c[1]", ["a b", "c[1]"]),
        (" 1 , 2 ", ["1", "2"]),
    ],
)
def test_values(text, values):
    """Commas separate them, except within a JSON value."""
    assert grid.split_values("x", text) == values


@pytest.mark.parametrize("text", ["", "1,", ",1", "1,,2", "a, ,b"])
def test_a_missing_value(text):
    with pytest.raises(TrainingError, match='^--hp x: a value is missing .* write "" for an empty'):
        grid.split_values("x", text)


@pytest.mark.parametrize(
    ("text", "value"), [("[a,b]", "[a"), ("1,[2", "[2"), ('"a,b', '"a'), ("{a:1},2", "{a:1}")]
)
def test_json_that_is_none(text, value):
    """It would be cut at its commas; the message says how a comma is written."""
    with pytest.raises(TrainingError) as failed:
        grid.split_values("x", text)
    assert str(failed.value).startswith(f"--hp x: {value} begins as JSON, but is not valid JSON;")
    assert str(failed.value).endswith("""--hp 'x="a,b"'""")


def test_points():
    """All combinations, the last name's values changing fastest."""
    assert grid.points({"lr": "1,2", "layers": "[3,4]", "name": "a,b"}) == [
        {"lr": "1", "layers": "[3,4]", "name": "a"},
        {"lr": "1", "layers": "[3,4]", "name": "b"},
        {"lr": "2", "layers": "[3,4]", "name": "a"},
        {"lr": "2", "layers": "[3,4]", "name": "b"},
    ]
