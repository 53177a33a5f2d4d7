"""Write the models once, and pack archives of them, each with a request as its sample."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from benchmarks.processes import environment

#: ``mms-handler`` of the Python that runs the benchmarks.
COMMAND = Path(sys.executable).with_name("mms-handler")

_HERE = Path(__file__).parent


def models() -> Path:
    """Return the folder of the models, which is written again when its program changes."""
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
    """Return the archive of a folder that benchmarks.probes.writing wrote."""
    return _pack(model, work / f"{model.parent.name}.packed")


def packed_int8(model: Path, work: Path) -> Path:
    """Return an archive with an int8 graph too, calibrated with the bodies that are sent.

    The weights are random, and so is which class scores highest, so no agreement is required.
    Answers are compared with MXNet's during the measurement instead.
    """
    store = work / f"{model.parent.name}.int8"
    bodies = store / "bodies"
    if not bodies.exists():
        bodies.mkdir(parents=True)
        for path in min(model.parent.glob("rows-*")).glob("[0-9]*.npy"):
            shutil.copy(path, bodies)
    options = ("--quantize", "int8", "--calibration", bodies, "--min-agreement", "0")
    return _pack(model, store, *options)


def _pack(model: Path, store: Path, *options: object) -> Path:
    archive, sample = store / "model.mar", min(model.parent.glob("rows-*/0.npy"))
    if not archive.exists():
        (store / "tmp").mkdir(parents=True)
        command = [COMMAND, "archive", model, "--name", "model", "--model-store", store]
        subprocess.run(
            [*command, "--sample", sample, *options],
            cwd=store,
            env=environment(store),
            check=True,
            capture_output=True,
        )
    return archive


def unpacked(model: Path, work: Path) -> Path:
    """Return the archive's content as a folder, which is what a worker loads."""
    archive = packed(model, work)
    folder = archive.with_suffix("")
    if not folder.exists():
        with zipfile.ZipFile(archive) as mar:
            mar.extractall(folder)
    return folder


def onnx(model: Path, python: Path) -> Path:
    """Return the MLP as an ONNX model, which this Python writes once."""
    path = model.parent / "model.onnx"
    if not path.exists():
        command = [python, "-m", "benchmarks.byhand.model", model.parent / "weights.npz", path]
        subprocess.run(command, cwd=_HERE.parent, check=True, capture_output=True)
    return path
