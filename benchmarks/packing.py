"""The models, written once; and our archives of them, each with a request as a sample."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from benchmarks.processes import environment

#: ``mms-handler`` of the Python that runs this.
COMMAND = Path(sys.executable).with_name("mms-handler")

_HERE = Path(__file__).parent


def models() -> Path:
    """The models, written once; anew when what writes them changes."""
    program = _HERE / "probes" / "writing.py"
    folder = _HERE / ".work" / hashlib.sha256(program.read_bytes()).hexdigest()[:8]
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [sys.executable, "-m", "benchmarks.probes.writing", folder],
        cwd=_HERE.parent,
        check=True,
        capture_output=True,
    )
    return folder


def packed(model: Path, work: Path) -> Path:
    """The archive of a folder that benchmarks.probes.writing wrote."""
    return _packed(model, work / f"{model.parent.name}.packed")


def packed_int8(model: Path, work: Path) -> Path:
    """Another, with the graph in eight-bit numbers, made of the bodies that are sent.

    The weights are random, and so is which score is the largest: what agrees is not asked for.
    The bodies of the answers are compared while it is measured.
    """
    store = work / f"{model.parent.name}.int8"
    bodies = store / "bodies"
    if not bodies.exists():
        bodies.mkdir(parents=True)
        for path in min(model.parent.glob("rows-*")).glob("[0-9]*.npy"):
            shutil.copy(path, bodies)
    asked = ("--quantize", "int8", "--calibration", bodies, "--min-agreement", "0")
    return _packed(model, store, *asked)


def _packed(model: Path, store: Path, *more: object) -> Path:
    archive, sample = store / "model.mar", min(model.parent.glob("rows-*/0.npy"))
    if not archive.exists():
        (store / "tmp").mkdir(parents=True)
        words = ("archive", model, "--name", "model", "--model-store", store, "--sample", sample)
        subprocess.run(
            [COMMAND, *words, *more],
            cwd=store,
            env=environment(store),
            check=True,
            capture_output=True,
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
