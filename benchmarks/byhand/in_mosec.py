"""The MLP in mosec: two workers that each take what waits, up to BATCH requests at once.

python -m benchmarks.byhand.in_mosec --port PORT
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from mosec import Server, Worker  # type: ignore[import-not-found]

from benchmarks.byhand.model import Mlp


class MlpWorker(Worker):  # type: ignore[misc]
    """Read and write in the worker, and run a batch's rows together."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = Mlp()

    def deserialize(self, data: bytes) -> Any:
        return self.mlp.read(data)

    def serialize(self, data: Any) -> bytes:
        return self.mlp.write(data)

    def forward(self, data: Any) -> Any:
        if not isinstance(data, list):
            return self.mlp.predict(data)
        return np.split(self.mlp.predict(np.concatenate(data)), len(data))


if __name__ == "__main__":
    server = Server()
    batch = int(os.environ["BATCH"])
    server.append_worker(MlpWorker, num=2, max_batch_size=batch, max_wait_time=1)
    server.run()
