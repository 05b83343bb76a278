"""Where every request is taken in: its body parsed, its model found, its texts asked of that model's lane."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from artifact.errors import ServeError
from serve.batching.lane import Answer, Lane
from serve.engine import Floats, Side, Text, normalize
from serve.http.body import RequestType, parse, read_json
from serve.http.domain import domain_headers
from serve.http.wanted import read_timeout, while_wanted
from serve.limits import Limits
from serve.problem import Problem, quote

Watcher = Callable[[Lane, Sequence[Text], Answer], None]
Endpoint = Callable[[Request], Awaitable[Response]]

BY_DEFAULT = "default"
"""Another name of the default, for clients that must name some model."""
HEADER_TEXTS = 16
"""Most texts that a header says something of each; clients and proxies take only so long a line."""


class Run(Protocol):
    """What `Lane.run` is."""

    async def __call__(self, texts: Sequence[Text], *, cut: Side | None = None) -> Answer:
        """The answer to `texts`, each one's own."""


class Choosing(Protocol):
    """A request as far as it says who answers."""

    @property
    def model(self) -> str | None:
        """A name, or None: the header's, or the default."""


Asked = TypeVar("Asked", bound=Choosing)


@dataclass(frozen=True, kw_only=True)
class Roster:
    """Who answers, at one moment; never changed, but replaced as a whole."""

    lanes: Mapping[str, Lane]
    aliases: Mapping[str, str]
    """Every name a request may use, to that of a lane."""
    default: str
    """Name of a lane."""


@dataclass(kw_only=True)
class Desk:
    """Who answers now, and what requests may ask."""

    roster: Roster
    limits: Limits
    watchers: list[Watcher] = field(default_factory=list)
    """Told of every answer, before it is sent; they may neither raise nor take long."""

    def endpoint(self, kind: type[RequestType], answer: Callable[[RequestType, Lane], Awaitable[Response]]) -> Endpoint:
        """`answer` as a route, given the body as `kind` and the lane that the request means."""

        async def endpoint(request: Request) -> Response:
            return await self.receive(request, partial(parse, kind), answer)

        return endpoint

    async def receive(
        self, request: Request, read: Callable[[Any], Asked], answer: Callable[[Asked, Lane], Awaitable[Response]]
    ) -> Response:
        """What `answer` makes of the body as `read` and the lane meant, unless the client stops waiting first.

        Refused before the body is read where so much waits already that no model would take it.
        """
        seconds = read_timeout(request)
        next(iter(self.roster.lanes.values())).refuse_when_full()
        asked = read(await read_json(request, self.limits))
        return await while_wanted(request, answer(asked, self.choose(request, asked.model)), seconds)

    def choose(self, request: Request, model: str | None) -> Lane:
        """The lane that the body's `model` names, else the header, else the default; `Problem` 404 for none of ours."""
        return self.find(model or request.headers.get("x-model") or self.roster.default, "model")

    def find(self, name: str, param: str) -> Lane:
        """The lane of that name, which the field `param` gave; `Problem` 404 for none of ours."""
        roster = self.roster
        if name not in roster.aliases:
            message = f"there is no model {quote(name)}, there is {', '.join(roster.aliases)}"
            raise Problem(404, "Validation", message, param=param, code="model_not_found")
        return roster.lanes[roster.aliases[name]]

    async def ask(
        self,
        lane: Lane,
        texts: Sequence[Text],
        *,
        truncate: bool | None = None,
        cut: Side | None = None,
        run: Run | None = None,
    ) -> Answer:
        """The lane's answer, or that of `run` in its place; `Problem` 413 when `truncate` is false and a text too long.

        `cut` is the end that such a text loses otherwise; None: as the model was trained.
        """
        answer = await (run or lane.run)(texts, cut=cut)
        self.tell(lane, texts, answer)
        truncated = answer.outputs.truncated
        if truncate is False and truncated is not None and truncated.any():
            message = f"a text is longer than {lane.engine.max_tokens} tokens and `truncate` is false"
            raise Problem(413, "Validation", message)
        return answer

    def tell(self, lane: Lane, texts: Sequence[Text], answer: Answer) -> None:
        """Let all who watch see an answer; of long texts it may have several rows each."""
        for watcher in self.watchers:
            watcher(lane, texts, answer)

    async def embed(
        self,
        lane: Lane,
        texts: Sequence[str],
        *,
        dimensions: int | None = None,
        normalized: bool = True,
        truncate: bool | None = None,
        cut: Side | None = None,
        run: Run | None = None,
    ) -> tuple[Floats, Answer]:
        """A vector for each text, cut to its first `dimensions` and then, if `normalized`, scaled to length one.

        `Problem` 422 when the model gives no embedding, or one of fewer dimensions; 413 as `ask`.
        """
        size = lane.engine.embedding_size
        if not size:
            raise Problem(422, "Validation", f"{lane.engine.name} gives no embedding", param="model")
        if dimensions is not None and dimensions > size:
            message = f"`dimensions` is {dimensions}, {lane.engine.name} gives {size}"
            raise Problem(422, "Validation", message, param="dimensions")
        answer = await self.ask(lane, texts, truncate=truncate, cut=cut, run=run)
        vectors = answer.outputs.embeddings[:, :dimensions]
        return normalize(vectors) if normalized else vectors, answer


def find_aliases(names: list[str], default: str) -> dict[str, str]:
    """Every name a request may use, to the engine meant; `ServeError` when `default` means none."""
    aliases: dict[str, str] = {}
    for name in names:
        aliases.setdefault(name.partition("/")[0], name)
    aliases |= {name: name for name in names}
    if default not in aliases:
        raise ServeError(f"there is no model {default!r} to answer by default", f"name one of {', '.join(names)}")
    chosen = aliases[default]
    return {BY_DEFAULT: chosen} | aliases | {chosen.partition("/")[0]: chosen}


def phases_of(lane: Lane, answer: Answer) -> dict[str, str]:
    """The headers that say who answered, where the time went, in milliseconds, and how far out the texts are."""
    return {
        "x-model": lane.engine.name,
        "x-tokenization-time": f"{answer.tokenization * 1e3:.3f}",
        "x-queue-time": f"{answer.queue * 1e3:.3f}",
        "x-inference-time": f"{answer.inference * 1e3:.3f}",
        **_trust_of(answer),
        **domain_headers(lane.engine, answer.outputs),
    }


def _trust_of(answer: Answer) -> dict[str, str]:
    """Of a cascade: which model answered each text, and how sure that one is."""
    if answer.answered_by is None or answer.confidence is None or len(answer.answered_by) > HEADER_TEXTS:
        return {}
    confidence = ",".join(f"{share:.6f}" for share in answer.confidence)
    return {"x-answered-by": ",".join(answer.answered_by), "x-confidence": confidence}
