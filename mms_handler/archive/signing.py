"""Sign an archive, and find out who signed one.

A signature covers every byte of the archive as it was before.  It is in the comment with which a
zip ends, so the rest of the archive stays what it was, and MMS and other readers of zips ignore it:

    entries ▸ list of entries ▸ end with its comment's length, 0 before ▸ signature (``sshsig``)
    └──────────────── SHA-512, with the length 0 ────────────┘
"""

from __future__ import annotations

import hashlib
import shutil
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mms_handler.archive import files, sshsig, zips
from mms_handler.archive.keys import Key, Keys, fingerprint, public_of
from mms_handler.archive.sshsig import Signature
from mms_handler.errors import ArchiveError, UntrustedArchive

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def sign(path: Path, key: Ed25519PrivateKey, target: Path | None = None) -> str:
    """Write an archive with a signature, in place of the one that it has.

    Args:
        path: a ``.mar``.
        key: the signer's.
        target: the archive to write; None: ``path`` itself.

    Returns:
        The fingerprint of the key.

    Raises:
        ArchiveError: the archive is not safe, or has a comment that is not a signature.
    """
    with files.replacing(target or path, force=True) as partial:
        shutil.copyfile(path, partial)
        return sign_in_place(partial, key)


def sign_in_place(path: Path, key: Ed25519PrivateKey) -> str:
    """As ``sign``, in a file that nobody reads yet."""
    with zips.opened(path) as mar:
        old = mar.comment
        if old and not sshsig.is_signature(old):
            raise ArchiveError("the zip has a comment of its own; write it without one")
        digest = hashlib.sha512()
        zips.hashes(mar, digest)
    public, signed = public_of(key), sshsig.signed_bytes(digest.digest())
    signature = sshsig.encode(Signature(public, key.sign(signed))).encode()
    with path.open("r+b") as file:
        file.seek(-2 - len(old), 2)
        file.truncate()
        file.write(struct.pack("<H", len(signature)) + signature)
    return fingerprint(public)


def claimed(comment: bytes) -> str:
    """Whose signature an archive's comment is, for people; "" if it is none.

    The signature itself is not checked.
    """
    if not sshsig.is_signature(comment):
        return ""
    try:
        return f"{fingerprint(sshsig.decode(comment).public)}, which was not checked"
    except ValueError:
        return "nobody: the signature is malformed"


def expected(comment: bytes, keys: Keys) -> tuple[Key, Signature]:
    """The signature in an archive's comment, and the key that is to check it.

    Raises:
        UntrustedArchive: there is no signature, or it is malformed, or not of a key that is trusted
            now.
    """
    if not sshsig.is_signature(comment):
        raise UntrustedArchive(f"it is not signed; expected a signature by {keys}")
    try:
        signature = sshsig.decode(comment)
    except ValueError as exc:
        raise UntrustedArchive(
            f"its signature is malformed: {exc}; expected a signature by {keys}"
        ) from exc
    entries = keys.of(signature.public)
    if not entries:
        raise UntrustedArchive(
            f"it is signed by {fingerprint(signature.public)}, which is not trusted; expected a "
            f"signature by {keys}"
        )
    now_s = time.time()
    valid = [
        key
        for key in entries
        if (key.from_s is None or key.from_s <= now_s)
        and (key.until_s is None or now_s < key.until_s)
    ]
    if not valid:
        raise UntrustedArchive(
            f"it is signed by {entries[0]}, whose key {_when(entries[0], now_s)}"
        )
    return valid[0], signature


def _when(key: Key, now_s: float) -> str:
    early = key.from_s is not None and now_s < key.from_s
    time_s = key.from_s if early else key.until_s
    date = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time_s))
    return f"is valid only from {date} on" if early else f"was valid only until {date}"


def check(digest: bytes, key: Key, signature: Signature) -> str:
    """Check that a signature is a key's for an archive with this digest (``zips.hashes``).

    Returns:
        Who signed it.

    Raises:
        UntrustedArchive: it is another archive's.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(
            signature.bytes, sshsig.signed_bytes(digest)
        )
    except (InvalidSignature, ValueError) as exc:
        raise UntrustedArchive(
            f"it is not what {key} signed: it was changed, or the signature is another archive's"
        ) from exc
    return str(key)
