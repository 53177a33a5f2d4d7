"""The server's own model store: a folder for each model, in the form that MMS takes.

.mar, model.tar.gz ──▶ verified and unpacked here     ──▶ STORE/NAME
folder             ──▶ scripts copied, weights linked ──▶ STORE/NAME
fetched folder     ──▶ moved                          ──▶ STORE/NAME

MMS itself would unpack archives unchecked, and use one folder for two models of the same archive.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mms_handler import archive
from mms_handler.script.frames import write_sources
from mms_handler.server.sources import Source

#: Files of this many bytes or more (weights) are linked; smaller ones (scripts) are copied.
_LINKED_BYTES = 2**20


class Store:
    """A private folder with a folder for each model."""

    def __init__(self, folder: Path, program: str | None) -> None:
        """Make ``folder``; ``program`` names the script if a model has several candidates."""
        self._folder, self._program = folder, program
        folder.mkdir()

    def folder(self, name: str) -> Path:
        """The folder of a model."""
        return self._folder / name

    def put(self, name: str, source: Source) -> Path:
        """Put a model into the store; returns its folder.

        Args:
            name: of the folder.
            source: the model.

        Raises:
            ArchiveError: the model is not safe, or cannot be served.
            ScriptError: several files could be its script.
        """
        try:
            is_folder = source.path.is_dir()
            folder = self.folder(name)
            if is_folder:
                self._link(source, folder)
            else:
                self._unpack(source, folder)
            is_here = is_folder and not source.fetched
            write_sources(folder, _origins(source) if is_here else {"": source.url})
            return folder
        except BaseException:
            self.remove(name)
            raise

    def _unpack(self, source: Source, target: Path) -> None:
        if source.path.suffix == ".mar":
            archive.unpack(source.path, target, source.keys)
            return
        archive.refuse_unsigned(source.path, source.keys)
        mar = self._folder / f"{source.name}.mar"  # it gives the manifest its name
        archive.unpack(archive.convert(source.path, mar, program=self._program), target)
        mar.unlink()

    def _link(self, source: Source, target: Path) -> None:
        archive.refuse_unsigned(source.path, source.keys)
        entries = archive.entries(
            source.path, name=source.name, code=source.code, program=self._program
        )
        for entry, content in entries.items():
            file = target / entry
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                file.write_bytes(content)
            elif source.fetched:
                os.replace(content, file)
            elif content.stat().st_size < _LINKED_BYTES:
                shutil.copyfile(content, file)
            else:
                os.symlink(content.resolve(), file)

    def remove(self, name: str) -> None:
        shutil.rmtree(self._folder / name, ignore_errors=True)


def _origins(source: Source) -> dict[str, Path]:
    """Where the files of a folder's copy come from."""
    origins = {"": source.path.resolve()}
    if source.code:
        code = source.code.resolve()
        origins["code" if code.is_dir() else f"code/{code.name}"] = code
    return origins
