"""The command archive --quantize int8, and its archive in a real MMS."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from running_mms import BIN, EXAMPLES

SCRIPT = """
from mxnet import gluon

def model_fn(model_dir):
    net = f"{model_dir}/net"
    return gluon.SymbolBlock.imports(f"{net}-symbol.json", ["data"], f"{net}-0000.params")
"""


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [str(BIN / "mms-handler"), "archive", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, env=os.environ, timeout=120, text=True)


def test_from_photos_to_predictions(front, stripes, tmp_path):
    """The command prints a line about the graph; MMS's replies differ by some hundredths."""
    model, photos = tmp_path / "stripes", stripes.write(tmp_path / "photos")
    shutil.copytree(stripes.folder, model)
    (model / "code").mkdir()
    (model / "code" / "inference.py").write_text(SCRIPT)
    options = ("--quantize", "int8", "--calibration", photos, "--model-store", front.store)
    process = run(model, *options)
    assert process.returncode == 0, process.stderr
    first, second = process.stdout.splitlines()
    assert re.fullmatch(
        r"int8: 13 of 13 operators, from 12 requests; top-1 agrees on 4 of 4 rows, "
        r"differences \d\.\d% mean, \d\.\d% at most, of the largest value; "
        r"\d+\.\d\d times as fast \(.* ms, .* ms\)",
        first,
    )
    assert second.startswith(f"{front.store / 'stripes.mar'}  ")
    assert front.add("stripes").status == 200
    (photo,), _ = stripes.photos(1, 99)
    out = io.BytesIO()
    np.save(out, photo[None])
    npy = "application/x-npy"
    scores = np.load(io.BytesIO(front.ask("stripes", out.getvalue(), npy, npy).body))
    expected = stripes.scores(photo[None])
    assert 1e-5 < np.abs(scores - expected).max() / np.abs(expected).max() < 0.1
    assert scores.argmax() == expected.argmax()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--quantize", "int8"], 2, "--quantize int8 needs --calibration, a folder of requests"),
        (["--quantize", "int4"], 2, "'int4' is not 'int8'."),
        (
            ["--calibration", EXAMPLES],
            2,
            "--calibration only works with --quantize int8",
        ),
        (["--min-agreement", "1"], 2, "--min-agreement only works with --quantize int8"),
        (
            ["--quantize", "int8", "--calibration", EXAMPLES / "no"],
            2,
            f"Directory '{EXAMPLES / 'no'}' does not exist.",
        ),
        (
            ["--quantize", "int8", "--calibration", __file__],
            2,
            f"Directory '{__file__}' is a file.",
        ),
        (
            ["--quantize", "int8", "--calibration", EXAMPLES],
            1,
            "is not a file; a calibration folder may only have files",
        ),
    ],
    ids=[
        "no calibration",
        "another type",
        "no --quantize",
        "--min-agreement alone",
        "no such folder",
        "a file",
        "folders in it",
    ],
)
def test_options_that_do_not_go_together(tmp_path, options, code, message):
    """The message says what is missing; nothing is loaded or written."""
    process = run(EXAMPLES / "linear", "--model-store", tmp_path, *options)
    assert process.returncode == code
    assert message in process.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
