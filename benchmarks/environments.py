"""Make the peers' virtual environments, each with versions that work together."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Sequence

#: mxnet 1.9.1 needs a NumPy below 1.24, in every environment.
_MXNET = ("mxnet==1.9.1", "numpy>=1.23,<1.24")

#: Newer releases of sagemaker-inference break sagemaker-mxnet-inference 1.5.5.
REQUIREMENTS = {
    "peer": (
        *_MXNET,
        "sagemaker-mxnet-inference==1.5.5",
        "sagemaker-inference==1.6.1",
        "multi-model-server==1.1.11",
    ),
    "litserve": (*_MXNET, "litserve==0.2.19"),
    "byhand": (
        "onnxruntime==1.32.0",
        "onnx==1.23.2",  # to write the model once
        "orjson==3.13.0",
        "granian==2.8.7",
        "fastapi==0.165.0",
        "uvicorn==0.54.0",
        "httptools==0.9.0",
        "uvloop==0.22.1",
        "mosec==0.9.8",
        "robyn==0.88.0",
    ),
    "plots": ("matplotlib>=3.5,<4",),
}


def make(folder: Path, names: Sequence[str] = tuple(REQUIREMENTS)) -> None:
    """Make the missing or outdated environments; one that fails half-way is made again."""
    for name in names:
        requirements = REQUIREMENTS[name]
        stamp = folder / name / "requirements"
        if not stamp.exists() or stamp.read_text() != "\n".join(requirements):
            _install(folder / name, requirements)
            stamp.write_text("\n".join(requirements))


def _install(folder: Path, requirements: tuple[str, ...]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip: list[str | Path] = [
        python(folder),
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
    ]
    subprocess.run([*pip, *requirements], check=True)


def python(folder: Path) -> Path:
    """Return the path of an environment's Python."""
    return folder / "bin" / "python"
