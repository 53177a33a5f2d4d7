"""The MLP in Robyn.

python -m benchmarks.byhand.in_robyn PORT --processes 2
"""

from __future__ import annotations

import sys

from robyn import Request, Response, Robyn  # type: ignore[import-not-found]

from benchmarks.byhand.model import Mlp

mlp = Mlp()
app = Robyn(__file__)
TYPE = {"content-type": "application/json"}


@app.post("/invocations")
async def invocations(request: Request) -> Response:
    body = request.body
    return Response(200, TYPE, mlp.answer(body.encode() if isinstance(body, str) else body))


if __name__ == "__main__":
    app.start("127.0.0.1", int(sys.argv[1]))
