"""The signatures of OpenSSH: ``ssh-keygen -Y sign`` makes the same, and ``-Y verify`` checks them.

Only Ed25519 and SHA-512 are written and read, and a signature has one spelling.

Source: openssh-portable/PROTOCOL.sshsig.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import NamedTuple

#: For what a signature is.  One that was made for anything else, such as git, does not count.
NAMESPACE = "mms-handler-archive"

KEY_TYPE = "ssh-ed25519"

_MAGIC, _VERSION, _HASH = b"SSHSIG", 1, "sha512"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_LINE = 70  # letters, as in ssh-keygen's output


class Signature(NamedTuple):
    """A signature: the public key's 32 bytes, and the signature's 64."""

    public: bytes
    bytes: bytes


def signed_bytes(digest: bytes) -> bytes:
    """What Ed25519 signs, for a file with this SHA-512."""
    return _MAGIC + _strings(NAMESPACE.encode(), b"", _HASH.encode(), digest)


def encode(signature: Signature) -> str:
    """A signature as text."""
    fields = (
        public_blob(signature.public),
        *(NAMESPACE.encode(), b"", _HASH.encode()),
        _strings(KEY_TYPE.encode(), signature.bytes),
    )
    blob = _MAGIC + struct.pack(">L", _VERSION) + _strings(*fields)
    text = base64.b64encode(blob).decode()
    lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    return "\n".join([_BEGIN, *lines, _END, ""])


def is_signature(text: bytes) -> bool:
    """Whether a text is meant to be a signature."""
    return text.startswith(_BEGIN[:10].encode())


def decode(text: bytes) -> Signature:
    """The signature in a text.

    Raises:
        ValueError: it is not one that ``encode`` writes.
    """
    try:
        lines = text.decode("ascii").split("\n")
        blob = base64.b64decode("".join(lines[1:-2]), validate=True)
        start = len(_MAGIC) + 4
        public, namespace, _, _, signature = _split(blob[start:], 5)
        decoded = Signature(_split(public, 2)[1], _split(signature, 2)[1])
    except (ValueError, struct.error, binascii.Error) as exc:
        raise ValueError("it is not a signature as ssh-keygen -Y sign writes it") from exc
    if namespace != NAMESPACE.encode():
        other = namespace[:60].decode("ascii", "backslashreplace")
        raise ValueError(f"it was made for {other!r}, not for {NAMESPACE}")
    if len(decoded.public) != 32 or len(decoded.bytes) != 64 or encode(decoded).encode() != text:
        raise ValueError("it is not one of Ed25519 and SHA-512")
    return decoded


def public_blob(public: bytes) -> bytes:
    """A public key as ssh has it."""
    return _strings(KEY_TYPE.encode(), public)


def public_in(text: str) -> bytes | None:
    """The public key in the base64 of a .pub file; None if it is not one of Ed25519."""
    try:
        blob = base64.b64decode(text, validate=True)
        public = _split(blob, 2)[1]
    except (ValueError, struct.error):
        return None
    return public if len(public) == 32 and public_blob(public) == blob else None


def _strings(*values: bytes) -> bytes:
    return b"".join(struct.pack(">L", len(value)) + value for value in values)


def _split(blob: bytes, count: int) -> list[bytes]:
    """The first ``count`` strings in ``blob``."""
    values = []
    for _ in range(count):
        (length,) = struct.unpack(">L", blob[:4])
        values.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return values
