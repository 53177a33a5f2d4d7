"""Install at import, print, and load slowly."""

import json
import os
import sys
import time

# NumPy is installed already; without an index nothing can be downloaded.
STATUS = os.system(sys.executable + " -m pip install --no-index --no-deps numpy")

import numpy as np  # noqa: E402

sys.stdout.write("a script may print what it likes: café\n")


def model_fn(model_dir):
    time.sleep(1)
    return np.eye(2) * 3


def transform_fn(model, data, content_type, accept):
    return json.dumps([STATUS, model.dot(json.loads(data)).tolist()]), accept
