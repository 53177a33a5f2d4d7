"""Signed archives on the command line and in a real server."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import zipfile
from pathlib import Path
from typing import Iterator

import pytest
from running_mms import BIN, EXAMPLES, Serving, free_ports, mms_handler, wait_for

from mms_handler import archive, client

#: RFC 8032, 7.1: the secret keys of tests 1 and 2, as openssl writes them.
RELEASE, OTHER = (
    f"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEI{text}\n-----END PRIVATE KEY-----\n"
    for text in (
        "J1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g",
        "EzNCJso/5banbbDRuwRTg9bijGfNaumJNqM9u1PuKb7",
    )
)
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"
#: As ``ssh-keygen -lf`` prints them.
SIGNER = "release (SHA256:bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8)"
EXPECTED = f"expected a signature by {SIGNER}"


def line(*words: object, **how) -> str:
    """The last line that a command prints."""
    done = mms_handler(*words, **how)
    return (done.stdout + done.stderr).decode().splitlines()[-1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Has keys, and a model store with an archive in each state."""
    folder = tmp_path_factory.mktemp("signed")
    (folder / "keys").mkdir()
    (folder / "keys" / "release.pub").write_text(f"{PUBLIC}\n")
    (folder / "key").write_text(RELEASE)
    (folder / "other").write_text(OTHER)
    store = folder / "store"
    packed = line(
        *("archive", EXAMPLES / "linear", "--model-store", store, "--name", "signed"),
        *("--sign", folder / "key"),
    )
    assert packed.startswith(f"{store / 'signed.mar'}  ")
    signed = (store / "signed.mar").read_bytes()
    with zipfile.ZipFile(store / "signed.mar") as mar:
        comment = mar.comment
    (store / "bare.mar").write_bytes(signed[: -len(comment) - 2] + b"\0\0")
    (store / "foreign.mar").write_bytes(signed)
    line("sign", store / "foreign.mar", "--key", folder / "other")
    (store / "damaged.mar").write_bytes(signed.replace(b"symbol", b"simbol"))
    (store / "malformed.mar").write_bytes(signed[:-3] + b"-->")
    line("convert", store / "signed.mar", "--name", "tarred", "--model-store", store)
    return folder


REASONS = {
    "bare.mar": f"bare.mar: it is not signed; {EXPECTED}",
    "foreign.mar": "foreign.mar: it is signed by SHA256:"
    f"F34nin7tcaYH6WR5LSWSfj6weFBPfBpuyUUoPFP9YjA, which is not trusted; {EXPECTED}",
    "damaged.mar": f"damaged.mar: it is not what {SIGNER} signed: it was changed, or the signature "
    "is another archive's",
    "malformed.mar": "malformed.mar: its signature is malformed: it is not a signature as "
    f"ssh-keygen -Y sign writes it; {EXPECTED}",
    "tarred.tar.gz": "tarred.tar.gz is not a .mar, and only a .mar can be signed; expected one "
    f"that is signed by {SIGNER}: mms-handler archive --sign KEY",
}


@pytest.fixture(scope="module")
def serving(folder) -> Iterator[Serving]:
    words = ("--model-store", folder / "store", "--workers", "1")
    env = {**os.environ, "MMS_HANDLER_REQUIRE_SIGNATURE": str(folder / "keys")}
    with Serving(
        free_ports(), folder / "store" / "signed.mar", *words, log=folder / "log", env=env
    ) as serving:
        yield serving


def test_a_signed_archive_is_served(serving, folder):
    answer = serving.ask("signed")
    assert (answer.status, answer.body) == (200, b"[[4.9999918937683105]]")
    description = json.loads(client.call("GET", f"{serving.management}/models/signed").body)
    assert description["signedBy"] == SIGNER
    port = serving.management.rpartition(":")[2]
    rows = mms_handler("models", "describe", "signed", "--management-port", port).stdout.decode()
    assert f"signed by  {SIGNER}\n" in rows
    assert f"signed.mar is signed by {SIGNER}\n" in (folder / "log").read_text()


@pytest.mark.parametrize("name", REASONS)
def test_a_registration_is_refused(serving, folder, name):
    """With 403, without a path; the log has the reason, and the command ``models`` too."""
    url = f"{serving.management}/models?url={name}&model_name=m"
    answer = client.call("POST", url, timeout_s=120)
    fields = {"code": 403, "type": "UntrustedArchive", "message": REASONS[name]}
    assert (answer.status, json.loads(answer.body)) == (403, fields)
    refused = f" refused: {REASONS[name]}\n"
    wait_for(lambda: refused in (folder / "log").read_text(), 30)
    swapped = client.call("POST", f"{url}&replace=true", timeout_s=120)
    assert swapped.status == 403
    assert serving.ask("signed").status == 200


def test_a_signed_archive_is_registered(serving):
    url = f"{serving.management}/models?url=signed.mar&model_name=again"
    assert client.call("POST", url, timeout_s=120).status == 200
    assert serving.ask("again").status == 200
    port = serving.management.rpartition(":")[2]
    load = mms_handler("models", "load", "bare.mar", "--name", "m", "--management-port", port)
    assert (load.returncode, load.stderr.decode()) == (1, f"error: {REASONS['bare.mar']}\n")


@pytest.mark.parametrize("name", REASONS)
def test_a_server_does_not_start(folder, name):
    done = mms_handler("serve", folder / "store" / name, "--require-signature", folder / "keys")
    assert (done.returncode, done.stderr.decode()) == (1, f"error: {REASONS[name]}\n")


def test_commands_refuse(folder, tmp_path):
    """Before anything of the archive is imported."""
    mark = tmp_path / "imported"
    (tmp_path / "m" / "code").mkdir(parents=True)
    (tmp_path / "m" / "code" / "inference.py").write_text(
        f"open({str(mark)!r}, 'w')\n\n\ndef model_fn(model_dir):\n    return 1\n"
    )
    (tmp_path / "row.json").write_text("[[1, 2]]")
    bare = archive.pack(tmp_path / "m", tmp_path / "bare.mar")
    env = {**os.environ, "MMS_HANDLER_REQUIRE_SIGNATURE": str(folder / "keys")}
    for words in (("verify", bare), ("check", bare), ("run", bare, tmp_path / "row.json")):
        done = mms_handler(*words, env=env)
        assert (done.returncode, done.stderr.decode()) == (1, f"error: {REASONS['bare.mar']}\n")
    assert not mark.exists()
    verified = mms_handler("verify", tmp_path / "m", "--require-signature", folder / "keys")
    assert verified.stderr.decode().startswith("error: m is not a .mar, and only a .mar can be")


def test_commands_say_who_signed(folder):
    path, keys = folder / "store" / "signed.mar", folder / "keys"
    verified = line("verify", path, "--require-signature", keys)
    assert verified.endswith(f"; signed by {SIGNER}")
    unchecked = line("verify", path)
    fingerprint = SIGNER.partition("(")[2][:-1]
    assert unchecked.endswith(f"; signed by {fingerprint}, which was not checked")
    env = {**os.environ, "MMS_HANDLER_REQUIRE_SIGNATURE": str(keys)}
    checked = mms_handler("check", path, env=env).stdout.decode()
    assert f"passed  the archive is as it was packed, signed by {SIGNER}\n" in checked
    listed = json.loads(mms_handler("sbom", path, env=env).stdout)
    assert listed["metadata"]["component"]["name"] == "signed"
    refused = mms_handler("sbom", folder / "store" / "bare.mar", env=env)
    assert refused.stderr.decode() == f"error: {REASONS['bare.mar']}\n"
    converted = mms_handler(
        *("convert", path, "--name", "again", "--model-store", folder / "converted")
    ).stdout.decode()
    assert converted.endswith(
        "a model.tar.gz has no signature: the one of the archive is not in it\n"
    )


def test_keys_that_cannot_be_read(folder):
    """The server does not start, and a development server has no signed model."""
    path = folder / "store" / "signed.mar"
    missing = mms_handler("serve", path, "--require-signature", folder / "none")
    assert missing.returncode == 2
    assert missing.stderr.decode() == (
        f"error: {folder / 'none'} cannot be read: No such file or directory\n"
    )
    private = mms_handler("serve", path, "--require-signature", folder / "key")
    assert private.returncode == 2
    assert "has a private key; keep it with the signer" in private.stderr.decode()
    dev = mms_handler("serve", "--dev", path, "--require-signature", folder / "keys")
    assert dev.returncode == 2
    assert "--dev serves what is being edited, which nobody has signed" in dev.stderr.decode()


def test_a_passphrase(folder, tmp_path):
    """From a file or a terminal, but not from a pipe that someone forgot."""
    mar = tmp_path / "m.mar"
    mar.write_bytes((folder / "store" / "bare.mar").read_bytes())
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(RELEASE.encode(), None)
    encryption = serialization.BestAvailableEncryption(b"open sesame")
    pkcs8 = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (tmp_path / "key").write_bytes(key.private_bytes(*pkcs8, encryption))
    (tmp_path / "passphrase").write_text("open sesame\n")
    signed = f"{mar} is signed by {SIGNER.partition('(')[2][:-1]}"
    words = ("sign", mar, "--key", tmp_path / "key")
    assert line(*words, "--passphrase-file", tmp_path / "passphrase") == signed
    assert line(*words) == (
        f"error: {tmp_path / 'key'} is encrypted: --passphrase-file names its passphrase"
    )
    (tmp_path / "passphrase").write_text("open\n")
    assert line(*words, "--passphrase-file", tmp_path / "passphrase") == (
        f"error: {tmp_path / 'key'} cannot be read as a private key: the passphrase is wrong, or "
        "the file is damaged"
    )
    master, slave = pty.openpty()
    with subprocess.Popen(
        [str(BIN / "mms-handler"), *map(str, words)],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        os.close(slave)
        prompt = f"Passphrase of {tmp_path / 'key'}: ".encode()  # what comes before it is lost
        assert process.stderr.read(len(prompt)) == prompt
        os.write(master, b"open sesame\n")
        out, err = process.communicate(timeout=60)
    os.close(master)
    assert (process.returncode, out.decode()) == (0, f"{signed}\n"), err
    assert b"open sesame" not in err
