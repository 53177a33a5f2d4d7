"""names: what versions may be called, and what MMS calls them."""

from __future__ import annotations

import pytest

from mms_handler import names
from mms_handler.errors import ArchiveError, BadInput
from mms_handler.manifest import check_name


@pytest.mark.parametrize("version", ["1", "2.0-b", "a" * 50, "V_1"])
def test_a_version(version):
    """It is part of a name of MMS's that no client can give a model."""
    assert names.check_version(version) == version
    mms_name = names.in_mms("iris", version)
    assert mms_name == f"iris~{version}"
    with pytest.raises(ArchiveError):
        check_name(mms_name)
    assert names.of_model(mms_name) == names.of_model("iris") == "iris"
    assert names.shown(mms_name) == f"iris version {version}"
    assert names.shown("iris") == "iris"


@pytest.mark.parametrize("version", ["", "-1", ".", "a b", "a/b", "1~2", "ü", "1\n", "a" * 51])
def test_no_version(version):
    """What a URL, a file or a command line would read otherwise."""
    assert not names.is_version(version)
    with pytest.raises(BadInput, match="is no version: use up to 50 letters, digits, '_', '.' and"):
        names.check_version(version)
