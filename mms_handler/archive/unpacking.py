"""Unpack an archive of either format as a worker gets it, to load it in a scratch folder."""

from __future__ import annotations

import re
from pathlib import Path

from mms_handler import settings
from mms_handler.archive.convert import convert
from mms_handler.archive.formats import other_suffix
from mms_handler.archive.keys import required
from mms_handler.archive.verify import refuse_unsigned, unpack
from mms_handler.names import check_name
from mms_handler.script.frames import write_sources


def unpack_any(path: Path, scratch: Path) -> tuple[Path, str]:
    """Unpack a ``.mar`` or a model.tar.gz that is safe, and signed if the settings require it.

    Args:
        path: the archive.
        scratch: an empty folder.

    Returns:
        The folder in ``scratch`` with the model, whose tracebacks will name ``path``; and what was
        verified, as a statement.

    Raises:
        ArchiveError: ``path`` is not an archive, or is not safe.
        UntrustedArchive: none of the keys signed it that the settings require.
        ScriptError: several files of a model.tar.gz could be its script.
    """
    name = check_name(re.sub(r"\.(mar|tar|tar\.gz|tgz)$", "", path.name))
    folder, keys = scratch / name, required(settings.current())
    if path.suffix != ".mar" and other_suffix(path) == ".mar":
        refuse_unsigned(path, keys)
        mar = convert(path, scratch / f"{name}.mar", program=settings.current().program)
        unpack(mar, folder)
        statement = "the archive is safe to unpack"
    else:
        manifest = unpack(path, folder, keys)
        statement = f"the archive is {'as it was packed' if manifest.hashes else 'safe to unpack'}"
        if manifest.signer:
            statement += f", signed by {manifest.signer}"
    write_sources(folder, {"": path})
    return folder, statement
