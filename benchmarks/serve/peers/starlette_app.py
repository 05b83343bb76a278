"""No batching at all: a request is a run, on a thread of a pool. `python -m benchmarks.serve.peers.starlette_app PORT`.

PEER_RUNS  runs beside one another
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks.serve.peers.encoder import open_encoder, read_knob


def main() -> None:
    """Serve until a signal."""
    encoder = open_encoder()
    pool = ThreadPoolExecutor(int(read_knob("PEER_RUNS", 1)))

    async def embed(request: Request) -> JSONResponse:
        text = (await request.json())["inputs"]
        vectors = await asyncio.get_running_loop().run_in_executor(pool, encoder.run, [text])
        return JSONResponse(vectors.tolist())

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({})

    app = Starlette(routes=[Route("/embed", embed, methods=["POST"]), Route("/health", health)])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
