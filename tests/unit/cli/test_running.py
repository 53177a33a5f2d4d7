"""cli.running: one request in a process of the command's own."""

from __future__ import annotations

import re
import subprocess
import sys

SCRIPT = """
print("while it loads")

def model_fn(model_dir):
    return 2

def input_fn(body, content_type):
    print("while it answers")
    return float(body)

def predict_fn(data, model):
    return 1 / data * model

def output_fn(prediction, accept):
    return str(prediction), "text/plain"
"""

TIMES = re.compile(r"\d+\.\d\d")


def run(*words, stdin=subprocess.DEVNULL):
    """The exit code of ``mms-handler run``, its reply, and its lines without the times."""
    body = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    command = [sys.executable, "-m", "mms_handler", "run", *map(str, words)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, **body)
    return done.returncode, done.stdout, TIMES.sub("0.00", done.stderr.decode()).splitlines()


def test_a_reply_and_how_long_each_step_took(model_dir, tmp_path_factory):
    """The reply alone is on standard output; the script lies elsewhere."""
    folder = model_dir()
    script = tmp_path_factory.mktemp("project") / "mine.py"
    script.write_text(SCRIPT)
    code, reply, lines = run(folder, "--script", script, "--content-type", "text/csv", stdin=b"4")
    assert (code, reply) == (0, b"0.5")
    assert lines[0] == "while it loads"
    assert lines[1].startswith("load     0.00 s: ")
    assert "mxnet 0.00" in lines[1]
    assert lines[2:] == [
        "request  standard input, 1 bytes of text/csv",
        "while it answers",
        "decode   0.00 ms, input_fn",
        "predict  0.00 ms, predict_fn",
        "encode   0.00 ms, output_fn",
        "reply    200 text/plain, 3 bytes",
    ]


def test_a_bug_is_shown_with_its_line(model_dir, tmp_path):
    """The last line is the reason; the steps before it were timed."""
    (tmp_path / "zero.csv").write_text("0")
    folder = model_dir(SCRIPT)
    code, reply, lines = run(folder, tmp_path / "zero.csv")
    assert (code, reply) == (1, b"")
    assert "predict  0.00 ms, predict_fn" in lines
    assert "encode   0.00 ms, output_fn" not in lines
    place = f'  File "{folder}/code/inference.py", line 12, in predict_fn'
    assert lines[lines.index("Traceback (most recent call last):") + 1] == place
    assert lines[-1] == (
        "error: 500 ZeroDivisionError: float division by zero (code/inference.py, line 12)"
    )


def test_without_a_file_the_sample_is_sent(model_dir):
    """Nothing is piped in: zeros in the shapes that the default save wrote."""
    code, reply, lines = run(model_dir())
    assert (code, reply) == (0, b"[[10.0, 20.0]]")
    assert "request  the sample, 8 bytes of application/json" in lines
    assert "predict  0.00 ms, the default predict_fn" in lines


def test_a_model_without_a_sample_needs_a_file(model_dir, tmp_path):
    """It says what to do."""
    folder = model_dir(SCRIPT)
    (tmp_path / "model-shapes.json").unlink()
    code, _, lines = run(folder)
    assert code == 2
    assert lines[-1].startswith("Error: there is no request: name a FILE, or pipe a body in")
