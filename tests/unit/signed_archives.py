"""Archives and keys for tests of signatures."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mms_handler import archive


def key_of(name: str) -> Ed25519PrivateKey:
    """A private key, always the same for a name."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def private_pem(name: str) -> bytes:
    return key_of(name).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def public_line(name: str) -> str:
    """As in a .pub file, without a comment."""
    ssh = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return key_of(name).public_key().public_bytes(*ssh).decode()


def trust(folder: Path, *names: str) -> Path:
    """A folder with the public keys of these names."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.pub").write_text(f"{public_line(name)}\n")
    return folder


def fingerprint(name: str) -> str:
    """A key's fingerprint, as ``ssh-keygen -lf`` prints it."""
    digest = hashlib.sha256(base64.b64decode(public_line(name).split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def pack_tiny(target: Path, script: str = "def model_fn(model_dir): return 1\n") -> Path:
    """An archive of a script and a file."""
    folder = target.parent / f"{target.stem}-files"
    (folder / "code").mkdir(parents=True, exist_ok=True)
    (folder / "code" / "inference.py").write_text(script)
    (folder / "net.params").write_bytes(bytes(range(64)))
    return archive.pack(folder, target, force=True)
