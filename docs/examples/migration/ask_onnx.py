"""Ask the exported model in ONNX Runtime, and do what the script's output_fn did."""

import json
import sys

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
with open(sys.argv[2]) as file:
    rows = np.array(json.load(file), np.float32)
(scores,) = session.run(None, {session.get_inputs()[0].name: rows})
print(json.dumps({"larger": [["first", "second"][row.argmax()] for row in scores]}))
