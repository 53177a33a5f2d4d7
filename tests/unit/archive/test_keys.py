"""archive.keys, archive.sshsig: keys and signatures, as openssl and ssh-keygen write them."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
from datetime import datetime, timezone

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mms_handler.archive import keys, sshsig
from mms_handler.archive.keys import Key
from mms_handler.archive.sshsig import Signature
from mms_handler.errors import SettingsError

#: RFC 8032, 7.1: the secret and the public key of test 1.
SECRET = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
#: As ``ssh-keygen -lf`` prints it.
FINGERPRINT = "SHA256:bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8"
LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
PLAIN = serialization.NoEncryption()


@pytest.fixture
def key():
    return Ed25519PrivateKey.from_private_bytes(SECRET)


def private_pem(key, encryption=PLAIN):
    return key.private_bytes(PEM, PKCS8, encryption)


def public_pem(key):
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(PEM, info)


def never():
    raise AssertionError("there is no passphrase")


def refusal(read, *arguments):
    with pytest.raises(SettingsError) as caught:
        read(*arguments)
    return str(caught.value)


# --- private keys ----------------------------------------------------------------------------


def test_a_private_key_of_either_tool(tmp_path, key):
    openssh = key.private_bytes(PEM, serialization.PrivateFormat.OpenSSH, PLAIN)
    for text in (private_pem(key), openssh):
        (tmp_path / "key").write_bytes(text)
        assert keys.public_of(keys.read_private(tmp_path / "key", never)) == PUBLIC


def test_a_private_key_with_a_passphrase(tmp_path, key):
    path = tmp_path / "key"
    path.write_bytes(private_pem(key, serialization.BestAvailableEncryption("né".encode())))
    assert keys.public_of(keys.read_private(path, lambda: "né")) == PUBLIC
    for wrong in (lambda: "ne", lambda: ""):
        assert refusal(keys.read_private, path, wrong) == (
            f"{path} cannot be read as a private key: the passphrase is wrong, or the file is "
            "damaged"
        )


def test_what_is_no_private_key(tmp_path, key):
    path = tmp_path / "key"
    needed = "expected an Ed25519 key in PEM, as openssl genpkey -algorithm ed25519 writes it"
    x448 = private_pem(key).replace(b"K2Vw", b"K2Vv")  # its keys are longer
    for text in (b"", b"a secret", public_pem(key), private_pem(key)[:-40], x448):
        path.write_bytes(text)
        message = refusal(keys.read_private, path, never)
        assert message == f"{path} cannot be read as a private key: {needed}"
    path.write_bytes(private_pem(ec.generate_private_key(ec.SECP256R1())))
    assert refusal(keys.read_private, path, never) == (
        f"{path} has another kind of key: expected Ed25519"
    )
    path.write_bytes(bytes(2**20 + 1))
    assert "has more than 1,048,576 bytes" in refusal(keys.read_private, path, never)
    assert refusal(keys.read_private, tmp_path / "none", never) == (
        f"{tmp_path / 'none'} cannot be read: No such file or directory"
    )


def test_what_an_encrypted_key_of_ssh_keygen_needs(tmp_path, monkeypatch):
    """cryptography says what is missing; openssl's keys need nothing else."""

    def load(text, passphrase):
        raise UnsupportedAlgorithm("Need bcrypt module")

    monkeypatch.setattr(serialization, "load_ssh_private_key", load)
    path = tmp_path / "key"
    path.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(SettingsError) as caught:
        keys.read_private(path, lambda: "")
    assert str(caught.value) == (
        f"{path}: Need bcrypt module; pip install bcrypt, or make a key by openssl"
    )


def test_the_extra_is_named_if_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    for read in (lambda: keys.read_private(tmp_path, never), lambda: keys.read_trusted(tmp_path)):
        assert refusal(read).endswith("pip install 'mms_handler[signing]'")


# --- public keys -----------------------------------------------------------------------------


def test_public_keys_of_a_folder(tmp_path, key):
    """The names are those of the files, or the comments of ssh-keygen."""
    (tmp_path / "release.pem").write_bytes(public_pem(key))
    (tmp_path / "ci.pub").write_text(f"{LINE}\n")
    (tmp_path / "team").write_text(f"# who may sign\n\n{LINE} Ann of ops\n  {LINE} bob@x\n")
    (tmp_path / ".hidden").write_text("no key")
    trusted = keys.read_trusted(tmp_path)
    names = ["ci", "release", "Ann of ops", "bob@x"]
    assert trusted.keys == [Key(name, PUBLIC) for name in names]
    assert str(keys.Keys(trusted.keys[:2])) == f"ci ({FINGERPRINT}) or release ({FINGERPRINT})"
    assert keys.read_trusted(tmp_path / "ci.pub").keys == [Key("ci", PUBLIC)]


def test_lines_of_allowed_signers(tmp_path):
    """As in ssh-keygen(1), with the times and the namespaces of a key."""
    path = tmp_path / "allowed_signers"
    path.write_text(
        f"ann {LINE}\n"
        f'bob valid-after="20260101Z",valid-before="202701021530Z" {LINE} of bob\n'
        f'git namespaces="git,file" {LINE}\n'
        f'both namespaces="file,mms-handler-*" {LINE}\n'
        f'second valid-before="20270102153005Z" {LINE}\n'
        f'local valid-before="20270102" {LINE}\n'
    )
    utc = timezone.utc
    assert keys.read_trusted(path).keys == [
        Key("ann", PUBLIC),
        Key(
            "bob",
            PUBLIC,
            datetime(2026, 1, 1, tzinfo=utc).timestamp(),
            datetime(2027, 1, 2, 15, 30, tzinfo=utc).timestamp(),
        ),
        Key("both", PUBLIC),
        Key("second", PUBLIC, None, datetime(2027, 1, 2, 15, 30, 5, tzinfo=utc).timestamp()),
        Key("local", PUBLIC, None, datetime(2027, 1, 2).timestamp()),
    ]


RSA_LINE = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7 ann"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no public key; put the signers' public keys there"),
        (f'git namespaces="git" {LINE}', "has no public key; put the signers' public keys there"),
        ("key", "'key' is not an Ed25519 key's line, as in ssh-keygen's .pub file"),
        (RSA_LINE, f"{RSA_LINE!r} is not an Ed25519 key's line, as in ssh-keygen's .pub file"),
        ("ssh-ed25519", "'ssh-ed25519' is not an Ed25519 key's line"),
        (f"{LINE[:-4]} x", "is not an Ed25519 key's line"),
        (f"{LINE}AAAA x", "is not an Ed25519 key's line"),
        (f"{LINE[:-1]}? x", "is not an Ed25519 key's line"),
        (f"ann cert-authority {LINE}", "the option 'cert-authority' of ann is not supported"),
        (f'ann valid-before="soon" {LINE}', "'soon' is not a time: expected YYYYMMDD[HHMM[SS]][Z]"),
        (f'ann valid-before="20261301" {LINE}', "'20261301' is not a time"),
        (f'ann valid-before="" {LINE}', "'' is not a time"),
        (f'ann valid-before="Z" {LINE}', "'Z' is not a time"),
        (f'ann valid-before="20260101ZZ" {LINE}', "'20260101ZZ' is not a time"),
        (f'ann valid-before="00010101" {LINE}', "'00010101' is not a time"),
        (f"ann valid-before {LINE}", "'' is not a time"),
        (f"ann valid-before=20260101 {LINE}", "'valid-before=20260101' of ann are not options"),
        (f'ann x valid-before="20260101" {LINE}', "of ann are not options of ssh-keygen"),
        (f'ann valid-before="20260101"; {LINE}', "of ann are not options of ssh-keygen"),
        (
            f'ann valid-before="20260101",valid-before="20990101" {LINE}',
            "of ann are not options of ssh-keygen",
        ),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a public key in PEM"),
    ],
)  # fmt: skip
def test_what_is_no_public_key(tmp_path, text, message):
    """A key that cannot be read is not left out: who put it there believes that it counts."""
    path = tmp_path / "keys"
    path.write_text(text)
    assert message in refusal(keys.read_trusted, path)
    assert str(path) in refusal(keys.read_trusted, path)


def test_other_keys_in_pem(tmp_path, key):
    path = tmp_path / "keys"
    path.write_bytes(private_pem(key))
    assert refusal(keys.read_trusted, path) == (
        f"{path} has a private key; keep it with the signer, and put its public key here: "
        "openssl pkey -in PRIVATE -pubout -out PUBLIC"
    )
    other = public_pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    for text in (other, public_pem(key) + public_pem(key)):
        path.write_bytes(text)
        assert refusal(keys.read_trusted, path) == (
            f"{path} has another kind of key, or several: expected one of Ed25519"
        )
    assert "cannot be read: " in refusal(keys.read_trusted, tmp_path / "none")


# --- signatures ------------------------------------------------------------------------------


def test_a_signature_as_text():
    signature = Signature(PUBLIC, bytes(range(64)))
    text = sshsig.encode(signature)
    lines = text.splitlines()
    assert (lines[0], lines[-1]) == (
        "-----BEGIN SSH SIGNATURE-----",
        "-----END SSH SIGNATURE-----",
    )
    assert sshsig.decode(text.encode()) == signature
    blob = base64.b64decode("".join(lines[1:-1]))
    expected = [
        (b"ssh-ed25519", PUBLIC),
        b"mms-handler-archive",
        b"",
        b"sha512",
        (b"ssh-ed25519", bytes(range(64))),
    ]

    def string(value):
        value = b"".join(map(string, value)) if isinstance(value, tuple) else value
        return len(value).to_bytes(4, "big") + value

    assert blob == b"SSHSIG\0\0\0\1" + b"".join(map(string, expected))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-1], "ssh-keygen -Y sign writes it"),
        (lambda text: text + b"\n", "is not one of Ed25519 and SHA-512|ssh-keygen -Y sign"),
        (lambda text: text.replace(b"\n", b"\r\n"), "ssh-keygen -Y sign writes it"),
        (lambda text: text.replace(b"A", b"\xc4", 1), "ssh-keygen -Y sign writes it"),
        (lambda text: text[:40], "ssh-keygen -Y sign writes it"),
        (lambda text: text.replace(b"\n", b"", 2), "ssh-keygen -Y sign|Ed25519 and SHA-512"),
        (lambda text: b"-----BEGIN SSH SIGNATURE-----\n\n-----END", "ssh-keygen -Y sign writes it"),
    ],
)  # fmt: skip
def test_a_malformed_signature(change, message):
    text = change(sshsig.encode(Signature(PUBLIC, bytes(64))).encode())
    with pytest.raises(ValueError, match=message):
        sshsig.decode(text)


def test_a_signature_for_something_else():
    text = sshsig.encode(Signature(PUBLIC, bytes(64)))
    blob = base64.b64decode("".join(text.split("\n")[1:-2]))
    for old, new, message in (
        (b"\0\0\0\x13mms-handler-archive", b"\0\0\0\3git", "it was made for 'git', not for mms-"),
        (b"sha512", b"sha256", "it is not one of Ed25519 and SHA-512"),
        (b"SSHSIG\0\0\0\1", b"SSHSIG\0\0\0\2", "it is not one of Ed25519 and SHA-512"),
        (PUBLIC, PUBLIC[:-1], "not one of Ed25519|ssh-keygen"),
    ):
        assert old in blob
        changed = base64.b64encode(blob.replace(old, new)).decode()
        lines = [changed[at : at + 70] for at in range(0, len(changed), 70)]
        armored = "\n".join([text.split("\n")[0], *lines, text.split("\n")[-2], ""]).encode()
        with pytest.raises(ValueError, match=message):
            sshsig.decode(armored)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="there is no ssh-keygen")
def test_ssh_keygen_makes_the_same(tmp_path):
    """The same signature byte for byte, and the same fingerprint."""

    def run(*words):
        done = subprocess.run(["ssh-keygen", *words], cwd=tmp_path, capture_output=True, check=True)
        return done.stdout.decode()

    run("-q", "-t", "ed25519", "-N", "", "-C", "ann", "-f", "key")
    (tmp_path / "data").write_bytes(b"abc")
    run("-Y", "sign", "-n", sshsig.NAMESPACE, "-f", "key", "data")
    private = keys.read_private(tmp_path / "key", never)
    digest = bytes.fromhex(  # FIPS 180-4's example of SHA-512
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
    )
    signature = private.sign(sshsig.signed_bytes(digest))
    public = keys.public_of(private)
    expected = (tmp_path / "data.sig").read_text()
    assert sshsig.encode(Signature(public, signature)) == expected
    (trusted,) = keys.read_trusted(tmp_path / "key.pub").keys
    assert trusted == Key("ann", public)
    assert keys.fingerprint(public) == run("-lf", "key.pub").split()[1]
