"""The MLP in FastAPI: the body read and the reply written by orjson.

uvicorn benchmarks.byhand.in_fastapi:app --loop uvloop --http httptools
"""

from fastapi import FastAPI, Request, Response  # type: ignore[import-not-found]

from benchmarks.byhand.model import Mlp

mlp = Mlp()
app = FastAPI()


@app.post("/invocations")
async def invocations(request: Request) -> Response:
    return Response(mlp.answer(await request.body()), media_type="application/json")
