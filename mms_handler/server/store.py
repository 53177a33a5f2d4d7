"""The server's own model store: each model a folder that MMS takes as it is.

.mar, model.tar.gz ──▶ checked, unpacked by us ──▶ STORE/NAME
folder ──▶ its script copied, the rest linked   ──▶ STORE/NAME

MMS unpacks without any check, and gives two models of one archive the same folder.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mms_handler import archive, manifest
from mms_handler.errors import NoSuchModel

#: Bytes from which on a file is linked instead of copied: scripts are not, weights are.
_LARGE = 2**20


def name_of(path: Path) -> str:
    """The name that a model gets from its file or folder.

    Raises:
        NoSuchModel: there is neither.
        ArchiveError: it cannot name a model.
    """
    if path.is_dir():
        return manifest.check_name(os.path.basename(os.path.abspath(path)))
    if path.is_file() and path.name.endswith((".mar", ".tar.gz")):
        return manifest.check_name(
            path.name[: -len(".mar" if path.suffix == ".mar" else ".tar.gz")]
        )
    raise NoSuchModel(f"{path} is neither a .mar, a .tar.gz nor a folder")


class Store:
    """A folder that is ours alone, with a folder for each model."""

    def __init__(self, folder: Path, program: str | None) -> None:
        """``program`` names the script where a folder has several that it could be."""
        self.folder, self._program = folder, program
        folder.mkdir()

    def put(self, path: Path, name: str) -> Path:
        """Put the model at ``path`` into the store.

        Raises:
            ArchiveError: it is not safe, or nothing that can be served.
            ScriptError: its script cannot be told among several files.
        """
        target = self.folder / name
        try:
            if path.is_dir():
                self._link(path, target, name)
            else:
                self._unpack(path, target)
        except BaseException:
            self.remove(name)
            raise
        return target

    def _unpack(self, path: Path, target: Path) -> None:
        if path.suffix == ".mar":
            archive.unpack(path, target)
            return
        packed = archive.convert(path, self.folder / f"{target.name}.mar", program=self._program)
        archive.unpack(packed, target)
        packed.unlink()

    def _link(self, path: Path, target: Path, name: str) -> None:
        for inner, source in archive.entries(path, name=name, program=self._program).items():
            file = target / inner
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, bytes):
                file.write_bytes(source)
            elif source.stat().st_size < _LARGE:
                shutil.copyfile(source, file)
            else:
                os.symlink(source.resolve(), file)

    def remove(self, name: str) -> None:
        shutil.rmtree(self.folder / name, ignore_errors=True)
