"""A file of five gigabytes, killed in its middle: the same bytes, in little memory."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest

pytestmark = pytest.mark.large

COLUMNS, BLOCK = 256, 1_000

#: Memory that a large file may take more than a small one, in MB, of all processes together.
MORE_MB = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("large")


@pytest.fixture(scope="module")
def model(folder):
    """The sum of 256 columns, as a Module."""
    import mxnet as mx

    symbol = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=1, no_bias=True, name="fc")
    made = folder / "model"
    made.mkdir()
    symbol.save(str(made / "model-symbol.json"))
    mx.nd.save(str(made / "model-0000.params"), {"arg:fc_weight": mx.nd.ones((1, COLUMNS))})
    (made / "model-shapes.json").write_text(f'[{{"name": "data", "shape": [1, {COLUMNS}]}}]')
    return made


class Rows:
    """A file of rows; the first column of each is the number of its block."""

    def __init__(self, file, gb):
        digits = np.random.RandomState(0).randint(1_000_000, 10_000_000, (BLOCK, COLUMNS - 1))
        text = "".join(f"@,{','.join(map(str, row))}\n" for row in digits / 1e6).encode()
        self.file, self.sums = file, (digits / 1e6).astype(np.float32).sum(1)
        self.blocks = max(1, int(gb * 1e9 / len(text)))
        with file.open("wb") as stream:
            for number in range(self.blocks):
                stream.write(text.replace(b"@", b"%d" % number))

    def check(self, output):
        """Each row has its sum, in its place."""
        with output.open() as lines:
            for number in range(self.blocks):
                found = np.array([float(next(lines)) for _ in range(BLOCK)])
                np.testing.assert_allclose(found, self.sums + number, rtol=1e-5)
            assert not lines.readline()


class Run:
    """A transform that is watched.

    Attributes:
        peak_mb: the most memory that its processes took together; what they share counts once.
    """

    def __init__(self, model, rows, output):
        command = [sys.executable, "-m", "mms_handler", "transform", model, "--input", rows.file,
                   "--output", output, "--split-type", "Line", "--assemble-with", "Line",
                   "--accept", "text/csv", "--workers", "2",
                   "--json", output.with_suffix(".json")]  # fmt: skip
        self.output, self.peak_mb, self._start = output, 0.0, time.monotonic()
        self.process = subprocess.Popen(list(map(str, command)))
        self._watching = threading.Thread(target=self._watch)
        self._watching.start()

    def _watch(self):
        main = psutil.Process(self.process.pid)
        while self.process.poll() is None:
            total = 0
            try:
                for each in (main, *main.children(recursive=True)):
                    total += each.memory_full_info().pss
            except psutil.Error:  # one has just ended
                continue
            self.peak_mb = max(self.peak_mb, total / 1e6)
            time.sleep(0.1)

    def written_bytes(self):
        """The size of the output that is not whole yet."""
        found = list(self.output.glob(".mms-handler-transform/*/output"))
        return found[0].stat().st_size if found else 0

    def end(self):
        self.process.wait()
        self._watching.join()
        self.seconds = time.monotonic() - self._start
        return self.process.returncode

    def report(self):
        return json.loads(self.output.with_suffix(".json").read_text())

    def checksum(self):
        digest = hashlib.sha256()
        with next(self.output.glob("*.out")).open("rb") as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
        return digest.hexdigest()


def test_a_large_file_that_is_killed_in_its_middle(model, folder, pytestconfig, capsys):
    gb = pytestconfig.getoption("gb")
    small = Run(model, Rows(folder / "small.csv", 0.1), folder / "small")
    assert small.end() == 0
    rows = Rows(folder / "large.csv", gb)
    whole = Run(model, rows, folder / "whole")
    assert whole.end() == 0
    rows.check(folder / "whole" / "large.csv.out")
    size = (folder / "whole" / "large.csv.out").stat().st_size

    killed = Run(model, rows, folder / "killed")
    while killed.written_bytes() < size / 2:
        assert killed.process.poll() is None
        time.sleep(0.2)
    killed.process.send_signal(signal.SIGKILL)
    assert killed.end() == -signal.SIGKILL
    again = Run(model, rows, folder / "killed")
    assert again.end() == 0
    assert again.checksum() == whole.checksum()
    report, records = again.report(), rows.blocks * BLOCK
    assert report["records"] == records
    assert records / 2 <= report["records_of_earlier_runs"] < records
    runs = {"small": small, "whole": whole, "killed": killed, "again": again}
    with capsys.disabled():
        print(f"\n{rows.file.stat().st_size / 1e9:.2f} GB, {records:,} records")
        for name, run in runs.items():
            print(f"{name}: {run.seconds:.0f} s, {run.peak_mb:.0f} MB at most")
        print(f"records of the killed run: {report['records_of_earlier_runs']:,}")
    assert max(whole.peak_mb, killed.peak_mb, again.peak_mb) < small.peak_mb + MORE_MB
