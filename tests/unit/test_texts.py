"""settings.texts: what each parser takes, at its edge."""

from __future__ import annotations

import pytest

from mms_handler.settings import texts

MB = 2**20


@pytest.mark.parametrize(
    ("parser", "values"),
    [
        (texts.natural, {"0": 0, " 7 ": 7, "9" * 18: 10**18 - 1}),
        (texts.positive, {"1": 1, "12": 12}),
        (texts.megabytes, {"1": MB, "3": 3 * MB}),
        (texts.body_bytes, {"1": 1, "2147483647": 2**31 - 1}),
        (texts.payload_megabytes, {"0": 100 * MB, "1": MB, "2047": 2047 * MB}),
        (texts.port, {"1": 1, "32766": 32_766}),
        (
            texts.port_range,
            {"1-1": (1, 1), " 1111-2222 ": (1111, 2222), "32766-99999": (32_766, 99_999)},
        ),
        (texts.threads, {"4": 4, "4,2": 4}),
        (texts.order, {"model,data": "model,data", " Data, Model": "data,model"}),
        (
            texts.boolean,
            {"true": True, "1": True, "YES": True, " false ": False, "0": False, "no": False},
        ),
        (texts.graphs, {"on": "on", " Float": "float", "OFF": "off"}),
        (texts.words, {"": (), "a": ("a",), " a , ,b,": ("a", "b")}),
        (texts.patterns, {"A": ("A",), "AWS_*, S?": ("AWS_*", "S?"), "a.b-c": ("a.b-c",)}),
        (texts.line, {"any text": "any text", "": ""}),
    ],
)
def test_what_a_parser_takes(parser, values):
    for text, value in values.items():
        assert parser(text) == value


@pytest.mark.parametrize(
    ("parser", "invalid", "reason"),
    [
        (texts.natural, ["", "-1", "1.5", "x", "9" * 19], "a whole number, 0 or more"),
        (texts.positive, ["0", "-1", "", "9" * 19], "a whole number, 1 or more"),
        (texts.megabytes, ["0", "x"], "a whole number, 1 or more"),
        (texts.body_bytes, ["0", "2147483648", "x"], "a number of bytes from 1 to 2147483647"),
        (texts.payload_megabytes, ["2048", "-1", "x"], "a whole number from 0 to 2047"),
        (texts.port, ["0", "32767", "x"], "a port from 1 to 32766"),
        (
            texts.port_range,
            ["0-5", "5-4", "32767-32768", "5", "123456-123457", "a-b", "1-2-3"],
            "two ports, such as 1111-2222, the first from 1 to 32766",
        ),
        (texts.threads, ["0", ",4", ""], "a whole number, 1 or more"),
        (texts.order, ["model", "model,model", ""], "'model,data' or 'data,model'"),
        (texts.boolean, ["", "2", "y", "truee"], "true or false"),
        (texts.graphs, ["", "int8"], "on, float or off"),
        (texts.patterns, ["", "a,,b", "a$", "[ab]", "ä", "a|b"], "names separated by commas, "),
        (texts.line, ["a\nb", "\0", "\x1b"], "one line of text"),
    ],
)
def test_what_a_parser_refuses(parser, invalid, reason):
    for text in invalid:
        with pytest.raises(ValueError, match=f"^{reason}"):
            parser(text)


def test_how_values_are_written():
    """As the parsers read them."""
    assert [texts.to_text(value) for value in (True, False, 7, "x", ("a", "b"), ())] == [
        "true",
        "false",
        "7",
        "x",
        "a,b",
        "",
    ]
