"""Ed25519 keys: the private one that signs archives, and the public ones that are trusted.

A public key is in PEM, as openssl writes it, or a line as ssh-keygen writes it.  A line may begin
with a name and options, as in ssh's allowed_signers file: ``release valid-before="20270101"
ssh-ed25519 AAAA...``.
"""

from __future__ import annotations

import base64
import datetime
import fnmatch
import hashlib
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Callable, NamedTuple, Sequence

from mms_handler.archive import sshsig
from mms_handler.errors import SettingsError
from mms_handler.settings import Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

#: The largest file of keys that is read, in bytes.
_MAX_BYTES = 2**20

_OPTION = r'([a-z-]+)(?:="([^"]*)")?'
_OPTIONS = re.compile(f"{_OPTION}(?:,{_OPTION})*")
_DATES = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}  # by their number of digits


class Key(NamedTuple):
    """A public key whose signatures are trusted.

    Fields:
        name: the person's, the machine's, or the file's.
        public: its 32 bytes.
        from_s: the time from which it is trusted, in seconds since 1970; None: always was.
        until_s: the time until which it is trusted; None: without end.
    """

    name: str
    public: bytes
    from_s: float | None = None
    until_s: float | None = None

    def __str__(self) -> str:
        return f"{self.name} ({fingerprint(self.public)})"


class Keys(NamedTuple):
    """The keys that are trusted: one at least."""

    keys: Sequence[Key]

    def __str__(self) -> str:
        return " or ".join(map(str, self.keys))

    def of(self, public: bytes) -> Sequence[Key]:
        """The entries of a public key; a key may have several, each for a time."""
        return [key for key in self.keys if key.public == public]


def fingerprint(public: bytes) -> str:
    """A public key's fingerprint, as ``ssh-keygen -lf`` prints it."""
    digest = hashlib.sha256(sshsig.public_blob(public)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def check_installed() -> None:
    """Check that keys can be read.

    Raises:
        SettingsError: the extra ``signing`` is not installed.
    """
    try:
        with warnings.catch_warnings():  # the last version for Python 3.8 says that it is the last
            warnings.simplefilter("ignore")
            import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401
    except ImportError as exc:
        raise SettingsError(
            f"signatures need cryptography: {exc}; pip install 'mms_handler[signing]'"
        ) from exc


# --- the private key -------------------------------------------------------------------------


def read_private(path: Path, passphrase: Callable[[], str]) -> Ed25519PrivateKey:
    """The private key in a file in PEM, of openssl or of ssh-keygen.

    Args:
        path: the file.
        passphrase: called if the key is encrypted.

    Raises:
        SettingsError: it is not such a key, the passphrase is wrong, or cryptography is missing.
    """
    check_installed()
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    text = _read(path)
    is_ssh = b"BEGIN OPENSSH PRIVATE KEY" in text
    load = serialization.load_ssh_private_key if is_ssh else serialization.load_pem_private_key
    needed = "expected an Ed25519 key in PEM, as openssl genpkey -algorithm ed25519 writes it"
    try:
        try:
            key = load(text, None)
        except TypeError:  # it is encrypted
            needed = "the passphrase is wrong, or the file is damaged"
            key = load(text, passphrase().encode())
    except UnsupportedAlgorithm as exc:
        raise SettingsError(f"{path}: {exc}; pip install bcrypt, or make a key by openssl") from exc
    except (ValueError, TypeError, InternalError) as exc:  # the last one is OpenSSL's own
        raise SettingsError(f"{path} cannot be read as a private key: {needed}") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"{path} has another kind of key: expected Ed25519")
    return key


def public_of(key: Ed25519PrivateKey) -> bytes:
    """The 32 bytes of a private key's public one."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


# --- the trusted keys ------------------------------------------------------------------------


def required(settings: Settings) -> Keys | None:
    """The keys of which one must have signed an archive; None if it needs no signature.

    Raises:
        SettingsError: as ``read_trusted``.
    """
    path = settings.require_signature
    return read_trusted(Path(path)) if path else None


def read_trusted(path: Path) -> Keys:
    """The public keys in a file, or in all files of a folder that are not hidden.

    Raises:
        SettingsError: there is no key, a file has something else, or cryptography is missing.
    """
    check_installed()
    try:
        files = (
            [file for file in sorted(path.iterdir()) if not file.name.startswith(".")]
            if path.is_dir()
            else [path]
        )
    except OSError as exc:
        raise SettingsError(f"{path} cannot be read: {exc.strerror}") from exc
    keys = [key for file in files for key in _read_file(file)]
    if not keys:
        raise SettingsError(f"{path} has no public key; put the signers' public keys there")
    return Keys(keys)


def _read_file(path: Path) -> list[Key]:
    text = _read(path)
    if b"PRIVATE KEY" in text:
        raise SettingsError(
            f"{path} has a private key; keep it with the signer, and put its public key here: "
            "openssl pkey -in PRIVATE -pubout -out PUBLIC"
        )
    if b"-----BEGIN" in text:
        return [Key(path.stem, _pem(path, text))]
    lines = text.decode("utf-8", "replace").splitlines()
    return [
        key
        for line in lines
        if line.strip() and not line.lstrip().startswith("#")
        for key in _line(path, line)
    ]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
    except OSError as exc:
        raise SettingsError(f"{path} cannot be read: {exc.strerror}") from exc
    if len(text) > _MAX_BYTES:
        raise SettingsError(f"{path} has more than {_MAX_BYTES:,} bytes, so it is not a key")
    return text


def _pem(path: Path, text: bytes) -> bytes:
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = serialization.load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm, InternalError) as exc:
        raise SettingsError(f"{path} is not a public key in PEM") from exc
    if not isinstance(key, Ed25519PublicKey) or text.count(b"-----BEGIN") > 1:
        raise SettingsError(f"{path} has another kind of key, or several: expected one of Ed25519")
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _line(path: Path, line: str) -> list[Key]:
    """The key of a line; none if its options say that it signs something else than archives."""
    expected = f"{path}: {line[:60]!r} is not an Ed25519 key's line, as in ssh-keygen's .pub file"
    words = line.split()
    if sshsig.KEY_TYPE not in words[:-1]:
        raise SettingsError(expected)
    at = words.index(sshsig.KEY_TYPE)
    public = sshsig.public_in(words[at + 1])
    if public is None:
        raise SettingsError(expected)
    if not at:
        return [Key(" ".join(words[2:]) or path.stem, public)]
    text = " ".join(words[1:at])
    pairs = re.findall(f"{_OPTION}(?:,|$)", text)
    options = dict(pairs)
    if text and (not _OPTIONS.fullmatch(text) or len(options) < len(pairs)):
        raise SettingsError(f"{path}: {text[:60]!r} of {words[0]} are not options of ssh-keygen")
    if unknown := options.keys() - {"namespaces", "valid-after", "valid-before"}:
        raise SettingsError(f"{path}: the option {unknown.pop()!r} of {words[0]} is not supported")
    patterns = options.get("namespaces", "*").split(",")
    if not any(fnmatch.fnmatchcase(sshsig.NAMESPACE, pattern) for pattern in patterns):
        return []
    times = [_time(path, options.get(name)) for name in ("valid-after", "valid-before")]
    return [Key(words[0], public, *times)]


def _time(path: Path, text: str | None) -> float | None:
    """The time of an option, in seconds since 1970: with a Z in UTC, else in the local zone."""
    if text is None:
        return None
    digits = text[:-1] if text.endswith("Z") else text
    zone = datetime.timezone.utc if text.endswith("Z") else None
    try:
        time = datetime.datetime.strptime(digits, _DATES[len(digits)])
        return time.replace(tzinfo=zone).timestamp()
    except (ValueError, KeyError, OverflowError) as exc:
        raise SettingsError(
            f"{path}: {text[:60]!r} is not a time: expected YYYYMMDD[HHMM[SS]][Z]"
        ) from exc
