"""cli.tune: what it writes into a signed archive, and what it says of it."""

from __future__ import annotations

import pytest
from signed_archives import fingerprint, key_of, pack_tiny, trust

from mms_handler import archive
from mms_handler.cli import tune
from mms_handler.tuning.candidate import Candidate
from mms_handler.tuning.search import Verdict

VERDICT = Verdict(Candidate(workers=1), 200.0, 100.0, 3.0, True, "")


@pytest.fixture
def mar(tmp_path):
    path = pack_tiny(tmp_path / "iris.mar")
    archive.sign(path, key_of("release"))
    return path


def test_a_signature_is_not_kept(mar, capsys):
    """It was of another archive; the command says how to get a new one."""
    tune._conclude(VERDICT, mar, mar, False, None)
    assert archive.verify(mar).signer == ""
    *_, last = capsys.readouterr().out.splitlines()
    assert last == f"it is not signed any more: mms-handler sign {mar} --key KEY"
    tune._conclude(VERDICT, mar, mar, False, None)
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith(f"{mar} is served with workers 1, for ")


def test_the_archive_is_signed_again(tmp_path, mar, capsys):
    tune._conclude(VERDICT, mar, mar, False, key_of("release"))
    keys = archive.read_trusted(trust(tmp_path / "keys", "release"))
    read = archive.verify(mar, keys)
    assert read.signer == f"release ({fingerprint('release')})"
    assert read.tuned.workers == 1
    assert "not signed" not in capsys.readouterr().out
