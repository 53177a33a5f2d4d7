"""Our archives of the models, each with one of its requests as a sample, made once in a run."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from benchmarks.processes import environment

#: ``mms-handler`` of the Python that runs this.
COMMAND = Path(sys.executable).with_name("mms-handler")


def packed(model: Path, work: Path) -> Path:
    """The archive of a folder that benchmarks.probes.writing wrote."""
    store = work / f"{model.parent.name}.packed"
    archive, sample = store / "model.mar", min(model.parent.glob("rows-*/0.npy"))
    if not archive.exists():
        (store / "tmp").mkdir(parents=True)
        words = ("archive", model, "--name", "model", "--model-store", store, "--sample", sample)
        subprocess.run(
            [COMMAND, *words], cwd=store, env=environment(store), check=True, capture_output=True
        )
    return archive


def unpacked(model: Path, work: Path) -> Path:
    """The same as a folder, as a worker finds it."""
    archive = packed(model, work)
    folder = archive.with_suffix("")
    if not folder.exists():
        with zipfile.ZipFile(archive) as mar:
            mar.extractall(folder)
    return folder
