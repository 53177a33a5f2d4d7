"""media: content types of files and headers, and which one a client prefers."""

from __future__ import annotations

from pathlib import Path

import pytest

from mms_handler import media


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.csv", "text/csv"),
        ("a.jpeg", "image/jpeg"),
        ("a.JPG", "image/jpeg"),
        ("a.json", "application/json"),
        ("a.jsonl", "application/jsonlines"),
        ("a.npy", "application/x-npy"),
        ("a.npz", "application/x-npz"),
        ("a.png", "image/png"),
        ("a.txt", None),
        ("csv", None),
    ],
)
def test_files(name, content_type):
    """By their suffix; one that is not known is JSON for whoever needs a type."""
    assert media.known_type_of_file(Path(name)) == content_type
    assert media.type_of_file(Path(name)) == (content_type or "application/json")


def test_names_of_types():
    """As SageMaker writes them."""
    types = [media.JSON, media.CSV, media.NPY, media.NPZ, media.JSON_LINES, media.RECORDIO]
    assert types == [
        "application/json",
        "text/csv",
        "application/x-npy",
        "application/x-npz",
        "application/jsonlines",
        "application/x-recordio-protobuf",
    ]


def test_parameters_are_left_out():
    assert media.main_type(" text/CSV ; charset=utf-8") == "text/csv"
    assert media.main_type("") == ""


def test_which_types_are_text():
    assert media.is_text("Application/JSON; charset=utf-8")
    assert media.is_text("text/csv")
    assert not media.is_text("application/jsonlines")
    assert not media.is_text("text/plain")


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [
        ("text/csv", ""),
        ("text/csv;charset=UTF-8", "utf-8"),
        ("text/csv; header=present; Charset = latin-1 ", "latin-1"),
        ('text/csv; charset="UTF-16"', "utf-16"),
        ("text/csv; charset=a; charset=b", "a"),
        ('text/csv; note="; charset=x"; charset=y', "y"),
        ("text/csv; charset", ""),
        ("charset=x", ""),
    ],
)
def test_charsets(content_type, charset):
    assert media.charset(content_type) == charset


@pytest.mark.parametrize(
    ("accept", "ranges"),
    [
        ("", [("*/*", 1)]),
        (" , ", [("*/*", 1)]),
        ("*", [("*/*", 1)]),
        ("Text/CSV, application/json;q=0.5", [("text/csv", 1), ("application/json", 0.5)]),
        ("a/b;x=1;Q=0.25;y=2", [("a/b", 0.25)]),
        ("a/b; q=0", [("a/b", 0)]),
        ("a/b; q=-1", [("a/b", 0)]),
        ("a/b; q=7", [("a/b", 1)]),
        ("a/b; q=x, c/d; q=nan", [("a/b", 0), ("c/d", 0)]),
        ('a/b; x="1,2;q=0"; q=0.5, c/d', [("a/b", 0.5), ("c/d", 1)]),
        (r'a/b; x="\",c/d", e/f', [("a/b", 1), ("e/f", 1)]),
        ('a/b; x="open, c/d', [("a/b", 1)]),
    ],
)
def test_ranges(accept, ranges):
    """Quoted commas and semicolons separate nothing."""
    assert media.ranges(accept) == ranges


@pytest.mark.parametrize(
    ("accept", "preferred", "other"),
    [
        ("text/csv", "text/csv", "application/json"),
        ("application/json;q=0.5, text/csv;q=0.6", "text/csv", "application/json"),
        ("text/csv, application/json", "text/csv", "application/json"),
        ("*/*;q=0.9, text/csv;q=0.1", "application/json", "text/csv"),
        ("text/*, */*;q=0.5", "text/csv", "application/json"),
        ("*/*, text/csv;q=0", "application/json", "text/csv"),
        ("text/csv;q=0.1, text/csv;q=0.9, */*;q=0.5", "text/csv", "application/json"),
    ],
)
def test_preferences(accept, preferred, other):
    """The most specific range that covers a type counts, then its q, then its place."""
    ranges = media.ranges(accept)
    assert media.preference(preferred, ranges) > media.preference(other, ranges)


def test_what_is_not_accepted():
    ranges = media.ranges("text/csv, image/*;q=0.5")
    assert media.preference("application/json", ranges) == (0, -2)
    assert media.preference("image/png", ranges) == (0.5, -1)
    assert media.preference("text/csv", ranges) == (1, 0)


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [
        ("text/csv", ""),
        ("text/csv; header=present", ""),
        ("text/csv; charset=UTF-8", "utf-8"),
        ('text/csv;header=present; CHARSET = "latin-1" ', "latin-1"),
        ('text/csv; a=";charset=x"; charset=y', "y"),
        ("text/csv;", ""),
    ],
)
def test_the_charset(content_type, charset):
    """In lower case, without quotes."""
    assert media.charset(content_type) == charset
