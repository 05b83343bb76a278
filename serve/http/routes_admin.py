"""What only an admin may ask: a model exchanged for another."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve.http.body import parse, read_json
from serve.http.guard import check_admin
from serve.http.replies import reply
from serve.http.requests import SwapRequest
from serve.keys import ApiKey
from serve.limits import Limits
from serve.swap.swapper import Swapper


class AdminRoutes:
    """What each route answers."""

    def __init__(self, swapper: Swapper, keys: tuple[ApiKey, ...], limits: Limits) -> None:
        self._swapper = swapper
        self._keys = keys
        self._limits = limits

    def routes(self) -> list[Route]:
        """All of them."""
        return [Route("/admin/swap", self.swap, methods=["POST"])]

    async def swap(self, request: Request) -> Response:
        """Exchange the bundle of a model; a client that hangs up does not stop it."""
        key = check_admin(request.scope, self._keys)
        asked = parse(SwapRequest, await read_json(request, self._limits))
        return reply(await self._swapper.swap(asked.model, asked.bundle, by=key.name))
