"""archive.signing: who signed an archive, and that nothing else is unpacked than was signed."""

from __future__ import annotations

import io
import os
import shutil
import struct
import time
import zipfile

import pytest
from signed_archives import fingerprint, key_of, pack_tiny, public_line, trust

from mms_handler import archive
from mms_handler.archive import keys as keys_module
from mms_handler.archive import sshsig, zips
from mms_handler.archive.sshsig import Signature
from mms_handler.errors import ArchiveError, UntrustedArchive
from mms_handler.manifest import MANIFEST, Tuned

RELEASE = f"release ({fingerprint('release')})"


@pytest.fixture
def keys(tmp_path):
    return archive.read_trusted(trust(tmp_path / "keys", "release"))


@pytest.fixture
def mar(tmp_path):
    """An archive that ``release`` has signed."""
    path = pack_tiny(tmp_path / "iris.mar")
    archive.sign(path, key_of("release"))
    return path


def refused(path, keys, reason):
    """Check that nothing of an archive is unpacked, and which reason is given."""
    folder = path.parent / "unpacked"
    for attempt in (archive.verify, lambda *words: archive.unpack(path, folder, keys)):
        with pytest.raises(UntrustedArchive) as caught:
            attempt(path, keys)
        assert str(caught.value) == f"{path.name}: {reason}"
        assert caught.value.status == 403
    assert not folder.exists()


# --- signing ---------------------------------------------------------------------------------


def test_a_signed_archive_is_the_archive_and_a_comment(tmp_path, keys):
    """So MMS and other readers of zips see what they saw before."""
    mar = pack_tiny(tmp_path / "iris.mar")
    before = mar.read_bytes()
    assert archive.verify(mar).signer == ""
    assert archive.sign(mar, key_of("release")) == fingerprint("release")
    after = mar.read_bytes()
    comment = zipfile.ZipFile(mar).comment
    assert after == before[:-2] + struct.pack("<H", len(comment)) + comment
    assert archive.verify(mar, keys).signer == RELEASE
    assert archive.verify(mar).signer == f"{fingerprint('release')}, which was not checked"
    assert archive.manifest_of(mar).signer == f"{fingerprint('release')}, which was not checked"
    archive.unpack(mar, tmp_path / "folder", keys)
    assert (tmp_path / "folder" / "net.params").read_bytes() == bytes(range(64))


def test_signing_again(tmp_path, mar, keys):
    """By the same key it changes nothing, and by another the signer alone."""
    before = mar.read_bytes()
    archive.sign(mar, key_of("release"))
    assert mar.read_bytes() == before
    other = tmp_path / "store" / "other.mar"
    archive.sign(mar, key_of("new"), other)
    assert mar.read_bytes() == before
    new = archive.read_trusted(trust(tmp_path / "new", "new"))
    assert archive.verify(other, new).signer == f"new ({fingerprint('new')})"
    archive.sign(other, key_of("release"))
    assert other.read_bytes() == before


def test_packing_and_signing_at_once(tmp_path, mar):
    """The same files and the same key give the same bytes."""
    folder = tmp_path / "iris-files"
    packed = archive.pack(folder, tmp_path / "again" / "iris.mar", key=key_of("release"))
    assert packed.read_bytes() == mar.read_bytes()


def test_an_archive_of_another_tool_is_signed(tmp_path, keys):
    """Without hashes in its manifest, and with a folder."""
    path = tmp_path / "iris.mar"
    with zipfile.ZipFile(path, "w") as written:
        written.writestr("code/", b"")
        written.writestr("code/inference.py", b"x = 1\n")
        written.writestr(
            MANIFEST, '{"model": {"modelName": "m", "handler": "mms_handler.service:handle"}}'
        )
    refused(path, keys, f"it is not signed; expected a signature by {RELEASE}")
    archive.sign(path, key_of("release"))
    assert archive.verify(path, keys).signer == RELEASE
    path.write_bytes(path.read_bytes().replace(b"x = 1", b"x = 2"))
    with pytest.raises(ArchiveError):
        archive.verify(path, keys)


def test_a_comment_that_is_no_signature_is_not_replaced(tmp_path, keys):
    path = pack_tiny(tmp_path / "iris.mar")
    with zipfile.ZipFile(path, "a") as opened:
        opened.comment = b"by model-archiver"
    refused(path, keys, f"it is not signed; expected a signature by {RELEASE}")
    before = path.read_bytes()
    with pytest.raises(ArchiveError, match="the zip has a comment of its own; write it without"):
        archive.sign(path, key_of("release"))
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir() if "partial" in each.name] == []


def test_a_rewritten_archive_is_signed_again_or_not_at_all(mar, keys):
    archive.write_tuned(mar, Tuned(2, workers=1), mar, key=key_of("release"))
    assert archive.verify(mar, keys)[:2] == ("iris", "mms_handler.service:handle")
    assert archive.verify(mar, keys).signer == RELEASE
    archive.write_tuned(mar, Tuned(2, workers=2), mar)
    refused(mar, keys, f"it is not signed; expected a signature by {RELEASE}")


# --- refusals --------------------------------------------------------------------------------


def commented(path, comment):
    """Replace the comment of an archive."""
    with zipfile.ZipFile(path, "a") as opened:
        opened.comment = comment


def test_a_stripped_signature(mar, keys):
    commented(mar, b"")
    archive.verify(mar)
    refused(mar, keys, f"it is not signed; expected a signature by {RELEASE}")


def test_a_foreign_signature(tmp_path, mar):
    """All that are trusted are named."""
    keys = archive.read_trusted(trust(tmp_path / "others", "ann", "bob"))
    refused(
        mar,
        keys,
        f"it is signed by {fingerprint('release')}, which is not trusted; expected a signature by "
        f"ann ({fingerprint('ann')}) or bob ({fingerprint('bob')})",
    )


def test_the_signature_of_another_archive(tmp_path, mar, keys):
    other = pack_tiny(tmp_path / "other.mar", "def model_fn(model_dir): return 2\n")
    commented(other, zipfile.ZipFile(mar).comment)
    changed = "it was changed, or the signature is another archive's"
    refused(other, keys, f"it is not what {RELEASE} signed: {changed}")


def test_a_signature_under_a_trusted_name(mar, keys):
    """The key of ``mallory`` under the public key of ``release``."""
    signature = sshsig.decode(zipfile.ZipFile(mar).comment)
    forged = key_of("mallory").sign(b"anything")
    commented(mar, sshsig.encode(Signature(signature.public, forged)).encode())
    changed = "it was changed, or the signature is another archive's"
    refused(mar, keys, f"it is not what {RELEASE} signed: {changed}")


@pytest.mark.parametrize("comment", [b"-----BEGIN", b"-----BEGIN" + b"x" * 2_000])
def test_a_malformed_signature_is_replaced_as_a_whole(mar, comment):
    """Also one that is longer than a new one."""
    before = mar.read_bytes()
    commented(mar, comment)
    archive.sign(mar, key_of("release"))
    assert mar.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[:-5], "it is not a signature as ssh-keygen -Y sign writes it"),
        (lambda text: text + b"\n", "it is not a signature as ssh-keygen -Y sign writes it"),
        (lambda text: text[:10], "it is not a signature as ssh-keygen -Y sign writes it"),
        (
            lambda text: text.replace(b"U1NIU0lH", b"U1NIU0lI"),  # SSHSIG
            "it is not one of Ed25519 and SHA-512",
        ),
    ],
)
def test_a_malformed_signature(mar, keys, change, reason):
    commented(mar, change(zipfile.ZipFile(mar).comment))
    expected = f"expected a signature by {RELEASE}"
    refused(mar, keys, f"its signature is malformed: {reason}; {expected}")
    assert archive.verify(mar).signer == "nobody: the signature is malformed"


def test_a_key_that_expired(tmp_path, mar):
    line = public_line("release")
    (tmp_path / "old").write_text(f'release valid-before="20200131Z" {line}\n')
    refused(
        mar,
        archive.read_trusted(tmp_path / "old"),
        f"it is signed by {RELEASE}, whose key was valid only until 2020-01-31 00:00:00 UTC",
    )
    (tmp_path / "new").write_text(f'release valid-after="29990101Z" {line}\n')
    refused(
        mar,
        archive.read_trusted(tmp_path / "new"),
        f"it is signed by {RELEASE}, whose key is valid only from 2999-01-01 00:00:00 UTC on",
    )
    (tmp_path / "both").write_text(
        f'release valid-before="20200131Z" {line}\nrelease valid-after="20200131Z" {line}\n'
    )
    assert archive.verify(mar, archive.read_trusted(tmp_path / "both")).signer == RELEASE


@pytest.mark.parametrize(
    ("now_s", "reason"),
    [
        (99.5, "is valid only from 1970-01-01 00:01:40 UTC on"),
        (100, None),
        (199.5, None),
        (200, "was valid only until 1970-01-01 00:03:20 UTC"),
    ],
)
def test_a_key_is_valid_from_a_moment_until_another(mar, monkeypatch, now_s, reason):
    """The first moment counts, and the last one does not."""
    key = keys_module.Key("release", keys_module.public_of(key_of("release")), 100, 200)
    monkeypatch.setattr("time.time", lambda: now_s)
    trusted = keys_module.Keys([key])
    if reason:
        refused(mar, trusted, f"it is signed by {RELEASE}, whose key {reason}")
    else:
        assert archive.verify(mar, trusted).signer == RELEASE


def test_what_cannot_be_signed(tmp_path, keys):
    """A model.tar.gz and a folder are refused where a signature is required."""
    archive.refuse_unsigned(tmp_path, None)
    with pytest.raises(UntrustedArchive) as caught:
        archive.refuse_unsigned(tmp_path / "model.tar.gz", keys)
    assert str(caught.value) == (
        "model.tar.gz is not a .mar, and only a .mar can be signed; expected one that is signed "
        f"by {RELEASE}: mms-handler archive --sign KEY"
    )


# --- changes of an archive -------------------------------------------------------------------


def is_refused(path, data, keys):
    """Whether an archive of these bytes is refused, with nothing unpacked."""
    path.write_bytes(data)
    folder = path.parent / "unpacked"
    try:
        archive.unpack(path, folder, keys)
    except ArchiveError:
        assert not folder.exists()
        return True
    return False


def test_no_byte_of_a_signed_archive_can_change(mar, keys):
    """Each bit that is flipped in turn, in entries, headers, lists, manifest and signature."""
    data = mar.read_bytes()
    unnoticed = [
        place
        for place in range(len(data))
        if not is_refused(
            mar, data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :], keys
        )
    ]
    assert unnoticed == []
    assert not is_refused(mar, data, keys)
    shutil.rmtree(mar.parent / "unpacked")


def test_no_byte_can_be_added_or_removed(mar, keys):
    data = mar.read_bytes()
    places = [*range(0, len(data), 7), len(data)]
    added = [at for at in places if not is_refused(mar, data[:at] + b"\0" + data[at:], keys)]
    removed = [at for at in places[:-1] if not is_refused(mar, data[:at] + data[at + 1 :], keys)]
    cut = [at for at in places[:-1] if not is_refused(mar, data[:at], keys)]
    assert (added, removed, cut) == ([], [], [])


def rewritten(path, change):
    """Write an archive's entries anew, as ``change`` says, below its own signature."""
    with zipfile.ZipFile(path) as old:
        infos = [(info, old.read(info)) for info in old.infolist()]
        comment = old.comment
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as new:
        for info, data in change(infos):
            new.writestr(info, data)
        new.comment = comment
    return out.getvalue()


def with_time(infos):
    for info, data in infos:
        info.date_time = (1981, 1, 1, 0, 0, 0)
        yield info, data


def with_mode(infos):
    for info, data in infos:
        info.external_attr = 0o100755 << 16
        yield info, data


def with_link(infos):
    for info, data in infos:
        if info.filename == "net.params":
            info.external_attr = 0o120777 << 16
        yield info, data


def with_method(infos):
    for info, data in infos:
        info.compress_type = zipfile.ZIP_DEFLATED
        yield info, data


def with_extra(infos):
    for info, data in infos:
        info.extra = b"\xca\xfe\0\0"
        yield info, data


def with_name(infos):
    for info, data in infos:
        if info.filename == "net.params":
            info = zipfile.ZipInfo("other.params", info.date_time)
        yield info, data


@pytest.mark.parametrize(
    "change",
    [
        lambda infos: infos[::-1],
        lambda infos: infos[1:],
        lambda infos: [*infos, (zipfile.ZipInfo("code/extra.py"), b"x = 1\n")],
        lambda infos: [*infos, (zipfile.ZipInfo("code/"), b"")],
        lambda infos: [*infos[:1], *infos],
        with_time,
        with_mode,
        with_link,
        with_method,
        with_extra,
        with_name,
    ],
    ids=[
        *("order", "missing", "extra", "folder", "twice"),
        *("time", "mode", "link", "method", "extra field", "name"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_are_as_they_were_signed(mar, keys, change):
    assert is_refused(mar, rewritten(mar, change), keys)


def test_the_same_members_written_anew_are_the_same(mar, keys):
    """``rewritten`` changes nothing else."""
    assert rewritten(mar, lambda infos: infos) == mar.read_bytes()


def test_another_zip_before_or_behind(tmp_path, mar, keys):
    """Readers that begin at one end see the other archive."""
    other = pack_tiny(tmp_path / "other.mar", "import evil\n").read_bytes()
    data = mar.read_bytes()
    comment = zipfile.ZipFile(mar).comment
    for hostile in (
        other + data,
        data + other,
        other[:-2] + struct.pack("<H", len(data)) + data,
        other[:-2] + struct.pack("<H", len(comment)) + comment,
    ):
        assert is_refused(mar, hostile, keys)


# --- another process meanwhile ---------------------------------------------------------------


def test_an_archive_that_is_replaced_meanwhile(tmp_path, mar, keys, monkeypatch):
    """What was opened is verified and unpacked, not what has its name then."""
    evil = pack_tiny(tmp_path / "evil.mar", "import evil\n")

    def replaced(*arguments):
        os.replace(evil, mar)
        return extract(*arguments)

    extract = zips.extract
    monkeypatch.setattr(zips, "extract", replaced)
    archive.unpack(mar, tmp_path / "folder", keys)
    script = (tmp_path / "folder" / "code" / "inference.py").read_text()
    assert script == "def model_fn(model_dir): return 1\n"


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("name", ["net.params", "code/inference.py"])
def test_an_archive_that_is_written_to_meanwhile(tmp_path, mar, keys, monkeypatch, signed, name):
    """A file is written in place, between its verification and its unpacking."""
    changed = pack_tiny(tmp_path / "changed.mar", "def model_fn(model_dir): return 2\n")
    if name == "net.params":
        data = mar.read_bytes().replace(bytes(range(64)), bytes(range(64))[::-1])
    else:
        data = changed.read_bytes()

    def written(*arguments):
        mar.write_bytes(data)
        return extract(*arguments)

    extract = zips.extract
    monkeypatch.setattr(zips, "extract", written)
    with pytest.raises(ArchiveError):
        archive.unpack(mar, tmp_path / "folder", keys if signed else None)
    assert not (tmp_path / "folder").exists()


def test_the_bytes_that_are_unpacked_are_hashed(tmp_path, mar, keys, monkeypatch):
    """Also where whoever writes in place takes care of the checksums."""
    evil = pack_tiny(tmp_path / "evil.mar", "def model_fn(model_dir): return 2\n").read_bytes()

    def written(mar_file, folder, hashes):
        mar.write_bytes(evil)
        with zipfile.ZipFile(mar) as reopened:
            extract(reopened, folder, hashes)

    extract = zips.extract
    monkeypatch.setattr(zips, "extract", written)
    with pytest.raises(ArchiveError) as caught:
        archive.unpack(mar, tmp_path / "folder", keys)
    assert str(caught.value) == "iris.mar: the entry 'code/inference.py' was changed meanwhile"
    assert not (tmp_path / "folder").exists()


def test_the_manifest_that_is_read_is_the_one_that_was_hashed(mar, keys, monkeypatch):
    """It is read once more, to be parsed."""
    hashes = zips.hashes

    def of_another(opened, digest=None):
        found = hashes(opened, digest)
        return {**found, MANIFEST: found["net.params"]}

    monkeypatch.setattr(zips, "hashes", of_another)
    with pytest.raises(ArchiveError) as caught:
        archive.verify(mar, keys)
    assert str(caught.value) == f"iris.mar: the entry {MANIFEST!r} was changed meanwhile"


def test_an_unsigned_archive_is_refused_before_it_is_read(tmp_path, keys):
    """Its size does not matter: the signature is looked for first."""
    path = pack_tiny(tmp_path / "iris.mar")
    data = bytearray(path.read_bytes())
    data[40] ^= 255  # in the first entry, which would be damaged
    path.write_bytes(data)
    refused(path, keys, f"it is not signed; expected a signature by {RELEASE}")


def test_time_of_the_clock_is_used(mar, tmp_path, monkeypatch):
    """A key is trusted until its time, and not at it."""
    until_s = 1_893_456_000  # 2030-01-01
    (tmp_path / "key").write_text(f'release valid-before="20300101Z" {public_line("release")}\n')
    keys = archive.read_trusted(tmp_path / "key")
    monkeypatch.setattr(time, "time", lambda: until_s - 1)
    archive.verify(mar, keys)
    monkeypatch.setattr(time, "time", lambda: until_s)
    with pytest.raises(UntrustedArchive):
        archive.verify(mar, keys)
