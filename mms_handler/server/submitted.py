"""The code that SageMaker's SDK uploaded apart from the model, as it did for MXNet up to 1.3."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Callable, Iterator, Sequence

from mms_handler import archive, processes
from mms_handler.archive import tars
from mms_handler.settings import Settings


@contextlib.contextmanager
def submitted_code(
    places: Sequence[str | Path], settings: Settings, log: Callable[[str], None]
) -> Iterator[Path | None]:
    """Yield a folder with the code of the one model that is to be served; it is removed afterwards.

    None if SAGEMAKER_SUBMIT_DIRECTORY is not an address in S3, as for MXNet 1.4 and later, whose
    models have their code; if the model is no folder; or if it has the file SAGEMAKER_PROGRAM.

    Args:
        places: of the models.
        settings: name the code and the script.
        log: called with a line before the code is fetched.

    Raises:
        ArchiveError: the code cannot be fetched, or is no tar archive that is safe to unpack.

    Source: CONTRACT B1.
    """
    url = settings.submit_directory or ""
    if not url.lower().startswith("s3://") or not _lacks_script(places, settings.program):
        yield None
        return
    log(f"fetching {url}")
    with processes.temporary_folder() as folder:
        tars.unpack(archive.fetch(url, folder, [url]), folder / "code")
        yield folder / "code"


def _lacks_script(places: Sequence[str | Path], program: str | None) -> bool:
    """Whether the one model is a folder without the script that is named."""
    if len(places) != 1 or program is None or not Path(places[0]).is_dir():
        return False
    folder = Path(places[0])
    return not any((part / program).is_file() for part in (folder / "code", folder))
