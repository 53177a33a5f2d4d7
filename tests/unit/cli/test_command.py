"""cli.command: completion in the shell, as the README shows it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

#: What bash does when somebody types a tab after these words.
TAB = """
COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_mms_handler_completion mms-handler
echo "${{COMPREPLY[@]}}"
"""


def completed(words):
    line = re.search(r'^\$ (eval "\$\(_MMS.+)$', (ROOT / "README.md").read_text(), re.MULTILINE)
    script = line.group(1).replace(".venv/bin/", "") + TAB.format(words=words)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.split()


def test_bash_completes_commands_and_options():
    assert completed("mms-handler che") == ["check"]
    assert completed("mms-handler init --k") == ["--kind"]
    assert completed("mms-handler ben") == ["bench"]
    assert completed("mms-handler tune --p9") == ["--p99-ms"]
    assert completed("mms-handler init fruit --kind ''") == ["gluon", "module", "transform"]
