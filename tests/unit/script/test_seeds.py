"""script.seeds: generators are seeded whether they are imported before or after."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest

PROGRAM = """
import importlib.util, sys
sys.path.insert(0, {folder!r})
{before}
from mms_handler.script.seeds import seed_generators
seed_generators(7)
import random, numpy, mxnet
import numpy.linalg
print(random.random(), numpy.random.rand(), mxnet.random.seeds)
print(importlib.util.find_spec("no_such_module_anywhere"))
"""


@pytest.mark.parametrize(
    "before",
    ["", "import numpy", "import mxnet", "import numpy, mxnet", "import random; random.random()"],
)
def test_each_generator_is_seeded_once(tmp_path, before):
    """A module in MXNet's place counts how often; NumPy is the real one."""
    (tmp_path / "mxnet.py").write_text(
        "class random:\n    seeds = []\n    seed = staticmethod(seeds.append)\n"
    )
    program = PROGRAM.format(folder=str(tmp_path), before=before)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    expected = f"{random.Random(7).random()} {np.random.RandomState(7).rand()} [7]"
    assert done.stdout.splitlines() == [expected, "None"]


WITHOUT_MXNET = """
import sys
from mms_handler.script.seeds import seed_generators
seed_generators(7)
sys.path[:] = [path for path in sys.path if "site-packages" not in path] + [{folder!r}]
try:
    import mxnet
    print(list(mxnet.__path__))
except ImportError as exc:
    print(exc.name)
"""


@pytest.mark.parametrize("is_there", [True, False])
def test_no_package_of_the_name(tmp_path, is_there):
    """A folder without a file has no generators; it is imported, as ever."""
    if is_there:
        (tmp_path / "mxnet").mkdir()
    program = WITHOUT_MXNET.format(folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == (f"{[str(tmp_path / 'mxnet')]}\n" if is_there else "mxnet\n")
