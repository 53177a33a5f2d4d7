"""results: whose fault a result is that cannot be used, and the sentence that says so."""

from __future__ import annotations

import pytest

from mms_handler.worker.results import Source, described, stumbled, unusable


def written():
    """A function of a script."""


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "None"), (1, "an int"), ("", "a str"), (b"", "a bytes"), (OSError(), "an OSError")],
)
def test_a_type_with_its_article(value, words):
    assert described(value) == words


ARRAYS = "an NDArray or a list of them"
BODY = "bytes, text, arrays, or numbers, lists or dicts of them, or one of these and a content type"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("model_fn", "a model"),
        ("input_fn", "data for predict_fn"),
        ("predict_fn", ARRAYS),
        ("process_request_fn", ARRAYS),
        ("output_fn", BODY),
        ("transform_fn", BODY),
    ],
)
def test_what_each_function_must_return(name, wanted):
    error = unusable(Source(name, written), 5)
    assert str(error) == f"{name} returned an int, wanted {wanted}"
    assert error.function is written
    default = unusable(Source(name, None), 5, "it is odd")
    assert str(default) == f"the default {name} returned an int, wanted {wanted}: it is odd"
    assert default.function is None


SOURCES = {"model": Source("model_fn", written), "data": Source("input_fn", None)}
NONE = "'NoneType' object has no attribute 'x'"


@pytest.mark.parametrize(
    ("exc", "arguments", "text"),
    [
        (AttributeError(NONE), {"model": None}, "model_fn returned None, wanted a model"),
        (TypeError("NoneType"), {"model": None}, "model_fn returned None, wanted a model"),
        (TypeError("another"), {"model": None}, None),
        (ValueError(NONE), {"model": None}, None),
        (TypeError(NONE), {"model": 1}, None),
        (TypeError(NONE), {}, None),
        (TypeError(NONE), {"data": None}, None),
    ],
    ids=[
        *("an attribute", "a type", "another text", "another error", "a model"),
        *("another argument", "a default function"),
    ],
)
def test_a_function_that_stumbles_over_none(exc, arguments, text):
    """The function that returned it is at fault, if it is the script's."""
    error = stumbled(exc, arguments, SOURCES)
    assert (error and str(error)) == text
