"""safety: each rule for the entries of an archive, at its edge."""

from __future__ import annotations

import stat

import pytest

from mms_handler.archive import safety
from mms_handler.archive.safety import Entries
from mms_handler.errors import ArchiveError

FILE, FOLDER = stat.S_IFREG, stat.S_IFDIR
MB = 10**6


def add(*names, archive_bytes=1_000):
    """Add entries of a byte each; a name that ends in a slash is a folder's."""
    entries = Entries(archive_bytes)
    for name in names:
        entries.add(name, 0, 1)
    return entries


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "a/b",
        "a/",
        "./a",
        "..a",
        "a..",
        "a/...",
        "ä",
        "a b",
        "x" * 255,
        "/".join(["x" * 99] * 10),
    ],
)
def test_names(name):
    safety.check_entry_name(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "an entry has no name"),
        ("/a", "leads outside the archive's folder"),
        ("..", "leads outside the archive's folder"),
        ("a/../b", "leads outside the archive's folder"),
        ("a\\b", "leads outside the archive's folder"),
        ("a\x00", "control characters or broken UTF-8"),
        ("a\x1f", "control characters or broken UTF-8"),
        ("a\x7f", "control characters or broken UTF-8"),
        ("a\ud800", "control characters or broken UTF-8"),
        ("x" * 256, "is too long: at most 1024 bytes are allowed, and 255 between slashes"),
        ("ä" * 128, "is too long"),
        ("a/" + "x" * 256 + "/b", "is too long"),
        ("/".join(["x" * 102] * 10), "is too long"),
    ],
)
def test_names_that_are_refused(name, reason):
    with pytest.raises(ArchiveError, match=reason):
        add(name)


# --- types -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0, FILE, FOLDER, FILE | 0o644, 0o755])
def test_types(mode):
    Entries(1).add("a", mode, 0)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (stat.S_IFLNK, "the entry 'a' is a link; replace it"),
        (stat.S_IFCHR, "the entry 'a' is neither a file nor a folder"),
        (stat.S_IFIFO, "the entry 'a' is neither a file nor a folder"),
        (stat.S_IFSOCK, "the entry 'a' is neither a file nor a folder"),
    ],
)
def test_types_that_are_refused(mode, reason):
    with pytest.raises(ArchiveError, match=f"^{reason}"):
        Entries(1).add("a", mode | 0o644, 0)


# --- places ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("a", "b"),
        ("a/", "a/"),
        ("a/", "a/b", "a/c/d"),
        ("a/b", "a/"),
        ("A", "a"),
        ("MAR-INF/manifest.jso", "MAR-INF/MANIFEST.json"),
    ],
)
def test_entries_together(names):
    add(*names)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("a", "a"), "the entry 'a' appears twice"),
        (("a/b", "a//b"), "the entry 'a//b' appears twice"),
        (("a", "./a"), "the entry './a' appears twice"),
        (("MAR-INF/MANIFEST.json", "mar-inf/Manifest.JSON"), "Manifest.JSON' appears twice"),
        (("a", "a/b"), "the entry 'a/b' and another one are a file and a folder"),
        (("a/b", "a"), "the entry 'a' and another one are a file and a folder"),
        (("a/b/c", "a"), "the entry 'a' and another one are a file and a folder"),
        (("a", "a/"), "the entry 'a/' and another one are a file and a folder"),
        (("a/", "a"), "the entry 'a' and another one are a file and a folder"),
        ((".",), "the entry '.' and another one are a file and a folder"),
    ],
)
def test_entries_that_exclude_each_other(names, reason):
    with pytest.raises(ArchiveError, match=f"{reason}$"):
        add(*names)


def test_a_folder_by_its_mode():
    """As by its name."""
    entries = Entries(1)
    entries.add("a", FOLDER, 0)
    entries.add("a/b", FILE, 0)
    with pytest.raises(ArchiveError, match="^the entry 'a' and another one"):
        entries.add("a", FILE, 0)


# --- sizes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "packed", "fits"),
    [
        (10 * MB, 1, True),
        (10 * MB + 1, 1, False),
        (20 * MB, MB // 10, True),
        (20 * MB + 1, MB // 10, False),
        (20 * MB, None, True),
        (-1, None, None),
    ],
)
def test_the_ratio_of_an_entry(size, packed, fits):
    """Up to ten megabytes any is allowed."""
    entries = Entries(10**9)
    if fits:
        entries.add("a", FILE, size, packed)
        return
    message = "claims a size of -1 bytes$" if fits is None else r"at most 200 times its packed siz"
    with pytest.raises(ArchiveError, match=f"^the entry 'a' .*{message}"):
        entries.add("a", FILE, size, packed)


def test_the_ratio_of_an_archive():
    """Of all its entries together."""
    entries = Entries(MB // 10)
    entries.add("a", FILE, 12 * MB)
    entries.add("b", FILE, 8 * MB)
    with pytest.raises(ArchiveError, match=r"^the archive unpacks from 100,000 to 20,000,001 byte"):
        entries.add("c", FILE, 1)


def test_the_largest_archive():
    entries = Entries(10**9)
    entries.add("a", FILE, 50 * 10**9)
    with pytest.raises(
        ArchiveError, match="^the archive unpacks to more than 50,000,000,000 bytes"
    ):
        entries.add("b", FILE, 1)


def test_the_most_entries(monkeypatch):
    assert safety.MAX_ENTRIES == 100_000
    monkeypatch.setattr(safety, "MAX_ENTRIES", 2)
    entries = add("a", "b/")
    with pytest.raises(ArchiveError, match="^the archive has more than 2 entries$"):
        entries.add("c", FILE, 0)


def test_reasons():
    """Without a path of this machine."""
    assert safety.reason(FileNotFoundError(2, "No such file", "/secret/path")) == "No such file"
    assert safety.reason(OSError("odd")) == "odd"
    assert safety.reason(ValueError("why")) == "why"


@pytest.mark.parametrize(
    ("name", "top"),
    [("/", True), ("./", True), (".", True), ("", True), (".//.", True)]
    + [(name, False) for name in ("a", "./a", "..", "...", ". ")],
)
def test_names_of_the_archives_own_folder(name, top):
    """As tar and SageMaker's SDK write them."""
    assert safety.is_top(name) is top
