"""The files of a model that is to be served: from a path, or from a registration's url."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Sequence

from mms_handler import archive, manifest, names, processes
from mms_handler.archive import Keys
from mms_handler.errors import (
    ArchiveError,
    NoSuchModel,
    ServerError,
    SettingsError,
    UntrustedArchive,
)
from mms_handler.names import check_name
from mms_handler.settings import Settings

log = logging.getLogger(__name__)

#: The ends of the names of archives.
_SUFFIXES = (".mar", ".tar.gz", ".tgz")


class Source(NamedTuple):
    """The files of a model, before they are in the store.

    Fields:
        name: the model's name.
        path: a .mar, a .tar.gz, a .tgz or a folder.
        size_bytes: the size of its files, unpacked.
        url: the path or address, as on the command line or in the registration.
        code: a script, or its folder, that replaces a folder's own; None: its own.
        fetched: ``path`` is temporary.
        version: the version of the model that its manifest names; "" if it names none.
        tuned: the settings that its manifest names, if it does.
        keys: one of these must have signed it; None: it needs no signature.
        signer: who signed it; "" for nobody.
    """

    name: str
    path: Path
    size_bytes: int
    url: str
    code: Path | None = None
    fetched: bool = False
    version: str = ""
    tuned: manifest.Tuned | None = None
    keys: Keys | None = None
    signer: str = ""


@contextlib.contextmanager
def opened(
    place: str | Path,
    code: Path | None,
    prefixes: Sequence[str],
    log: Callable[[str], None],
    keys: Keys | None = None,
) -> Iterator[Source]:
    """Yield the model at a path or an address, named after its file or folder.

    A model that is fetched is removed when the ``with`` block ends.

    Args:
        place: as for ``source_at``, or an address.
        code: as for Source.
        prefixes: an address that ``place`` redirects to must begin with one of these.
        log: called with a line before a model is fetched.
        keys: as for Source.

    Raises:
        NoSuchModel, ArchiveError: as ``source_at``; or the model cannot be fetched.
    """
    if "://" not in str(place):
        yield source_at(Path(place), code, keys)
        return
    url = str(place)
    if code:
        raise ArchiveError(f"{url}: --script is for a model in a folder of this machine")
    log(f"fetching {url}")
    with processes.temporary_folder() as folder:
        path = archive.fetch(url, folder, [url, *prefixes])
        yield source_at(path, code, keys)._replace(url=url, fetched=True)


def source_at(path: Path, code: Path | None = None, keys: Keys | None = None) -> Source:
    """The model at ``path``, named after its file or folder.

    Args:
        path: a ``.mar``, a ``.tar.gz`` or a folder.
        code: as for Source.
        keys: as for Source; a folder that has one archive then stands for it.

    Raises:
        NoSuchModel: ``path`` is not an archive or a folder.
        ArchiveError: the file's name is not a valid model name, or the archive is not safe, or
            ``path`` is an archive and there is ``code``.
        UntrustedArchive: none of ``keys`` signed it.
    """
    name = name_of(path)
    if code and not path.is_dir():
        raise ArchiveError(f"{path} has a script of its own; --script is for a model in a folder")
    return _source(name, path, str(path), keys)._replace(code=code)


def name_of(path: Path) -> str:
    """The name that a model gets from its file or folder.

    Raises:
        NoSuchModel: ``path`` is not an archive or a folder.
        ArchiveError: the name is not a valid model name.
    """
    if path.is_dir():
        return check_name(os.path.basename(os.path.abspath(path)))
    if path.is_file() and path.name.endswith(_SUFFIXES):
        return check_name(stem(path.name))
    raise NoSuchModel(f"{path} is neither a .mar, a .tar.gz, a .tgz nor a folder")


def stem(file_name: str) -> str:
    """The name of a file without the suffix of an archive, if it has one."""
    suffixes = [suffix for suffix in _SUFFIXES if file_name.endswith(suffix)]
    return file_name[: -len(suffixes[0])] if suffixes else file_name


def _source(name: str | None, path: Path, url: str, keys: Keys | None) -> Source:
    """A model whose signature is checked, if it needs one."""
    if keys:
        path = _signed_archive(path, keys)
        signed = archive.verify(path, keys)
        log.info("%s is signed by %s", path.name, signed.signer)
        packed: manifest.Manifest | None = signed
    else:
        packed = _manifest_if_valid(path)
    source = Source(name or own_name(path, packed), path, archive.size(path), url, keys=keys)
    if packed is None:
        return source
    # Other programs write what is no version here.
    version = packed.version if names.is_version(packed.version) else ""
    return source._replace(version=version, tuned=packed.tuned, signer=packed.signer)


def _signed_archive(path: Path, keys: Keys) -> Path:
    """The archive at a path, or in a folder that has no other one.

    SageMaker unpacks a model.tar.gz, in which a signed archive can be.

    Raises:
        UntrustedArchive: there is something else.
    """
    archives = list(path.glob("*.mar")) if path.is_dir() else [path]
    if len(archives) != 1 or not archives[0].name.endswith(".mar"):
        archive.refuse_unsigned(path, keys)
    return archives[0]


def _manifest_if_valid(path: Path) -> manifest.Manifest | None:
    """The manifest of an archive or a folder; one that is not valid is refused later."""
    with contextlib.suppress(ArchiveError):
        return _manifest(path)
    return None


def _manifest(path: Path) -> manifest.Manifest | None:
    """The manifest of an archive or a folder that has one.

    Raises:
        ArchiveError: an archive's is not valid.
    """
    if path.is_dir():
        with contextlib.suppress(ArchiveError):  # a new manifest is written then
            return manifest.read_folder(path)
    return archive.manifest_of(path) if path.suffix == ".mar" else None


def own_name(path: Path, packed: manifest.Manifest | None = None) -> str:
    """The name of a model: its manifest's, or else that of its file or folder.

    Args:
        path: an archive or a folder.
        packed: its manifest, if it was read.

    Raises:
        ArchiveError: there is none.
    """
    if packed := packed or _manifest(path):
        return packed.name
    try:
        return name_of(path)
    except (ArchiveError, NoSuchModel) as exc:
        raise ArchiveError(f"model_name is missing, and {path.name} does not give one") from exc


def allowed_folders(settings: Settings) -> list[Path]:
    """The folders from which a registration may take models."""
    folders = [Path(settings.model_store)]
    if settings.multi_model:
        folders.append(Path(settings.base_dir or "/opt/ml") / "models")
    return folders


class Sources:
    """The folders and addresses from which registrations may take models."""

    def __init__(
        self,
        folders: Sequence[Path],
        prefixes: Sequence[str],
        scratch: Path,
        keys: Callable[[], Keys | None] = lambda: None,
    ) -> None:
        """Allow models from these places.

        Args:
            folders: with models; a url without a scheme is a path in one of them.
            prefixes: an archive is fetched only from an address that begins with one of these.
            scratch: a folder for fetched archives until they are in the store.
            keys: called for each model; returns those of which one must have signed it, if any
                must.
        """
        self._folders = [folder.resolve() for folder in folders]
        self._prefixes, self._scratch, self._keys = prefixes, scratch, keys

    def fetches(self, url: str) -> bool:
        """Whether the model at ``url`` has to be fetched first.

        Raises:
            ArchiveError: the address is not allowed.
        """
        remote = "://" in url
        if remote:
            archive.check_url(url, self._prefixes)
        return remote

    @contextlib.contextmanager
    def open(self, name: str | None, url: str) -> Iterator[Source]:
        """Yield the model at ``url``, to be called ``name``; remove a fetched file afterwards.

        Without a name it is called as the manifest of its archive or folder says, as in MMS, or
        else after its file or folder.

        Raises:
            NoSuchModel: the path does not exist, or is outside the folders.
            ArchiveError: the address is not allowed, the archive cannot be fetched or is not safe,
                or there is no name that a model can have.
            UntrustedArchive: it needs a signature, and has none of a key that is trusted.
            ServerError: the keys cannot be read.
        """
        keys = self._trusted()
        if "://" not in url:
            path = self._local(url)
            yield self._checked(name, path, url, keys)
            return
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            path = archive.fetch(url, Path(folder), self._prefixes)
            yield self._checked(name, path, url, keys)._replace(fetched=True)

    def _trusted(self) -> Keys | None:
        """The keys as they are now, which are not a client's business."""
        try:
            return self._keys()
        except SettingsError as exc:
            log.error("no model can be registered: %s", exc)
            raise ServerError(
                "the server cannot read the keys that sign archives; its log has the cause"
            ) from exc

    def _checked(self, name: str | None, path: Path, url: str, keys: Keys | None) -> Source:
        try:
            return _source(name, path, url, keys)
        except UntrustedArchive as exc:
            log.warning("refused: %s", exc)
            raise

    def _local(self, url: str) -> Path:
        if ".." in url.split("/"):
            raise NoSuchModel(f"Relative path is not allowed in url: {url}")
        for folder in self._folders:
            # ValueError: letters that no path has.  RuntimeError: links that lead to each other.
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                path = (folder / url).resolve()  # an absolute url replaces the folder
                if folder in path.parents and path.exists():
                    return path
        raise NoSuchModel(f"Model not found in model store: {url}")
