"""Run LitServe around a Block from the script's model_fn; bodies are JSON.

python litserving.py MODEL PORT WORKERS BATCH
"""

import runpy
import sys
from typing import Any

import litserve  # type: ignore[import-not-found]  # only in its own environment
import mxnet as mx
import numpy as np
from fastapi import Request  # type: ignore[import-not-found]


class Block(litserve.LitAPI):  # type: ignore[misc]
    """JSON bodies, read by LitServe's default."""

    model = ""

    def setup(self, device: Any) -> None:
        script = runpy.run_path(f"{self.model}/code/inference.py")
        self.block = script["model_fn"](self.model)

    def decode_request(self, request: Request) -> Any:
        return np.asarray(request, np.float32)

    def batch(self, inputs: Any) -> Any:
        return np.concatenate(inputs)

    def predict(self, data: Any) -> Any:
        return self.block(mx.nd.array(data)).asnumpy()

    def unbatch(self, output: Any) -> Any:
        return [output[row : row + 1] for row in range(len(output))]

    def encode_response(self, output: Any) -> Any:
        return output.tolist()


if __name__ == "__main__":
    model, port, workers, batch = sys.argv[1:]
    api = Block(max_batch_size=int(batch), batch_timeout=0.001 if batch != "1" else 0)
    api.model = model
    server = litserve.LitServer(
        api, "cpu", devices=1, workers_per_device=int(workers), fast_queue=True
    )
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning")
