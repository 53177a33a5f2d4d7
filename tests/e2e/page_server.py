"""A server with the page, and with models of each kind that the page can ask."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Iterator

import numpy as np
from running_mms import BIN, EXAMPLES, free_ports

from mms_handler import server
from mms_handler.settings import Settings

#: Says how many pixels a picture has, and what its mean colour is.
COLOURS = """
def model_fn(model_dir):
    return "none"


def predict_fn(data, model):
    return data


def output_fn(prediction, accept):
    names = ["red", "green", "blue"]
    means = prediction.asnumpy().mean(axis=(0, 2, 3)) / 255
    return [[float(mean) for mean in means]]
"""

BROKEN = "def model_fn(model_dir):\n    raise ValueError('a secret')\n"


def digits(folder: Path) -> Path:
    """The example ``digits``, trained on its real data and packed with a picture as its sample."""
    from sklearn.datasets import load_digits

    pictures, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(7).permutation(len(labels))
    training, sample = order[360:], order[0]
    (folder / "train").mkdir()
    table = np.column_stack([labels[training], pictures[training]])
    np.savetxt(folder / "train" / "digits.csv", table, delimiter=",", fmt="%d")
    script = EXAMPLES / "digits" / "code" / "digits.py"
    channel = f"train={folder}/train"
    command("train", "--entry-point", script, "--channel", channel, "--base-dir", folder / "job")
    body = folder / "sample.json"
    body.write_text(json.dumps([pictures[sample].astype(int).tolist()]))
    words = ["--script", script, "--name", "digits", "--model-store", folder, "--sample", body]
    command("archive", folder / "job" / "model", *words)
    return folder / "digits.mar"


def command(*words: object) -> None:
    subprocess.run([BIN / "mms-handler", *map(str, words)], check=True, capture_output=True)


def script_folder(folder: Path, name: str, text: str) -> Path:
    """A model that is only a script."""
    (folder / name / "code").mkdir(parents=True)
    (folder / name / "code" / "inference.py").write_text(text)
    return folder / name


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """The URL of the page; the model ``broken`` cannot be loaded."""
    port, management = free_ports()
    settings = Settings(port=port, management_port=management, workers=1, keep_going=True, ui=True)
    places = [
        digits(folder),
        EXAMPLES / "gluon_blocks",
        script_folder(folder, "colours", COLOURS),
        script_folder(folder, "broken", BROKEN),
    ]
    with server.serve(places, settings, log=lambda line: None) as models:
        yield f"{models.url}/ui/"
