"""names: what models and versions may be called, and what MMS calls them."""

from __future__ import annotations

import pytest

from mms_handler import names
from mms_handler.errors import ArchiveError, BadInput


@pytest.mark.parametrize("name", ["a", "7", "Iris-2_b.c", "x" * 200])
def test_names(name):
    assert names.check_name(name) == name


@pytest.mark.parametrize("name", ["", "-rf", ".a", "_a", "a b", "a/b", "ä", "a\n"])
def test_names_that_are_refused(name):
    with pytest.raises(ArchiveError, match="is not a valid model name: use letters, digits"):
        names.check_name(name)


def test_a_name_that_is_too_long():
    with pytest.raises(ArchiveError, match=r"'x{20}'\.\.\. has 201 characters; use at most 200$"):
        names.check_name("x" * 201)


@pytest.mark.parametrize("version", ["1", "2.0-b", "a" * 50, "V_1"])
def test_a_version(version):
    """It is part of a name of MMS's that no client can give a model."""
    assert names.check_version(version) == version
    mms_name = names.in_mms("iris", version)
    assert mms_name == f"iris~{version}"
    with pytest.raises(ArchiveError):
        names.check_name(mms_name)
    assert names.of_model(mms_name) == names.of_model("iris") == "iris"
    assert names.shown(mms_name) == f"iris version {version}"
    assert names.shown("iris") == "iris"


@pytest.mark.parametrize("version", ["", "-1", ".", "a b", "a/b", "1~2", "ü", "1\n", "a" * 51])
def test_no_version(version):
    """What a URL, a file or a command line would read otherwise."""
    assert not names.is_version(version)
    with pytest.raises(BadInput, match="is no version: use up to 50 letters, digits, '_', '.' and"):
        names.check_version(version)
