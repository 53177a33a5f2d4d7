"""Send what /openapi.json describes, and what it does not, to a real server: with schemathesis.

    python tests/fuzz/described_api.py [EXAMPLES]

The server must answer as it is described: with no 500, and with statuses, content types and bodies
that are described.  It may take more than the description says, as a single row, or PUT for
POST, which MMS takes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "e2e"))

from running_mms import EXAMPLES, Serving, free_ports, mms_handler  # noqa: E402

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance"
)


def run(url: str, examples: int, *more: str) -> subprocess.CompletedProcess[str]:
    """Try the API at ``url``, with so many requests for each operation."""
    program = str(Path(sys.executable).with_name("schemathesis"))
    words = ["run", f"{url}/openapi.json", "--checks", CHECKS, "--no-color"]
    words += ["--max-examples", str(examples), "--suppress-health-check", "all", *more]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        return subprocess.run([program, *words], cwd=folder, capture_output=True, text=True)


def main(examples: int) -> int:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        mms_handler("archive", EXAMPLES / "linear", "--model-store", folder)
        # A script's own exceptions are 500, and so are no finding: no transform_fn.
        models = Path(folder) / "linear.mar", EXAMPLES / "gluon_blocks"
        with Serving(free_ports(), *models) as serving:
            ended = run(serving.inference, examples)
    sys.stdout.write(ended.stdout + ended.stderr)
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
