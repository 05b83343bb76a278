"""Routes of our own: spans in texts, answers in contexts, and classes with all there is to say of them."""

from functools import partial

from starlette.responses import Response
from starlette.routing import Route

from serve.batching.lane import Answer, Lane
from serve.engine import Engine, Kind, kind_of
from serve.http.desk import Desk, phases_of
from serve.http.domain import domain_of
from serve.http.ranking import labels_of, rank_labels, read_scores
from serve.http.replies import Classification, FoundAnswer, TextSpan, reply
from serve.http.requests import check_texts
from serve.http.requests_passages import AnswerRequest, ClassifyRequest, TagRequest
from serve.passages.answers import Found, find_answers
from serve.passages.reading import Reading, join
from serve.passages.spans import Span, find_spans, list_tokens
from serve.problem import Problem
from serve.trust.cascade import CascadeEngine


class OurRoutes:
    """What each route answers, given the request and the lane it means."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[Route]:
        """All of them."""
        desk = self._desk
        return [
            Route("/tag", desk.endpoint(TagRequest, self.tag), methods=["POST"]),
            Route("/answer", desk.endpoint(AnswerRequest, self.answer), methods=["POST"]),
            Route("/classify", desk.endpoint(ClassifyRequest, self.classify), methods=["POST"]),
        ]

    async def tag(self, asked: TagRequest, lane: Lane) -> Response:
        """The spans of one text, in their order, or a list of such lists; `Problem` 422 for a model that tags none."""
        engine = lane.engine
        _check_kind(engine, "tagger", "labels no tokens")
        texts = check_texts(asked.texts, self._desk.limits)
        reading = Reading(engine=engine, texts=texts, overlap=engine.max_tokens // 4, truncate=asked.truncate)
        answer = await lane.run_tokens(reading.tokenize, reading.cost)
        self._desk.tell(lane, reading.texts, answer)
        return await lane.work_out(partial(_tell_tags, asked, reading, lane, answer), reading.cost)

    async def answer(self, asked: AnswerRequest, lane: Lane) -> Response:
        """Where each context answers its question: one answer, a list of the best `top_k`, or such for each of a list.

        `Problem` 422 for a model that finds none.
        """
        engine = lane.engine
        _check_kind(engine, "reader", "finds no answers")
        check_texts(asked.pairs, self._desk.limits)
        overlap = max(engine.max_tokens // 4, asked.max_answer_tokens - 1)
        reading = Reading(engine=engine, texts=asked.pairs, overlap=overlap)
        answer = await lane.run_tokens(reading.tokenize, reading.cost)
        self._desk.tell(lane, reading.texts, answer)
        return await lane.work_out(partial(_tell_answers, asked, reading, lane, answer), reading.cost)

    async def classify(self, asked: ClassifyRequest, lane: Lane) -> Response:
        """The best label, the best `top_k` with scores, and how far that may be trusted: for one text, or each."""
        labels = labels_of(lane.engine)
        texts = check_texts(asked.texts, self._desk.limits)
        answer = await self._desk.ask(lane, texts, truncate=asked.truncate, cut=asked.cut)
        shown = describe_classes(labels, answer, lane.engine, raw=asked.raw_scores, top_k=asked.top_k)
        return reply(shown if asked.is_batch else shown[0], headers=phases_of(lane, answer))


def describe_classes(
    labels: list[str], answer: Answer, engine: Engine, *, raw: bool = False, top_k: int | None = None
) -> list[Classification]:
    """Each text's classes as `/classify` tells them, `engine` having been asked and having answered."""
    ranked = rank_labels(labels, read_scores(answer, engine, raw=raw))
    own = read_scores(answer, engine, raw=False).max(axis=-1).tolist()
    sure = own if answer.confidence is None else answer.confidence.tolist()
    answered_by = answer.answered_by or (engine.name,) * len(ranked)
    verdicts = domain_of(engine, answer.outputs)
    answered_first = engine.student.name if isinstance(engine, CascadeEngine) else engine.name
    return [
        {
            "model": engine.name,
            "label": predictions[0]["label"],
            "score": predictions[0]["score"],
            "scores": predictions[:top_k],
            "answered_by": answered_by[row],
            "confidence": None if engine.problem == "regression" else sure[row],
            "out_of_domain": verdicts[row] if verdicts else None,
            "escalated": answered_by[row] != answered_first,
        }
        for row, predictions in enumerate(ranked)
    ]


def _check_kind(engine: Engine, kind: Kind, lacking: str) -> None:
    if kind_of(engine) != kind:
        raise Problem(422, "Validation", f"{engine.name} {lacking}", param="model")


def _tell_tags(asked: TagRequest, reading: Reading, lane: Lane, answer: Answer) -> Response:
    find = find_spans if asked.aggregation == "spans" else list_tokens
    logits = reading.deal(answer.outputs.pieces["token_logits"])
    found: list[list[TextSpan]] = []
    for passage, windows, arrays in zip(reading.passages, reading.windows, logits, strict=True):
        spans = find(passage, join(windows, arrays), lane.engine.labels)
        found.append([_show_span(passage.text, span) for span in spans])
    return reply(found[0] if isinstance(asked.inputs, str) else found, headers=phases_of(lane, answer))


def _tell_answers(asked: AnswerRequest, reading: Reading, lane: Lane, answer: Answer) -> Response:
    begins, finishes = (reading.deal(answer.outputs.pieces[name]) for name in ("start_logits", "end_logits"))
    found: list[list[FoundAnswer]] = []
    for passage, windows, starts, ends in zip(reading.passages, reading.windows, begins, finishes, strict=True):
        best, nothing = find_answers(
            passage, windows, starts, ends, count=asked.top_k, most_tokens=asked.max_answer_tokens
        )
        found.append([_show_answer(passage.text, each, nothing) for each in best])
    shown = [each[0] for each in found] if asked.top_k == 1 else found
    return reply(shown if isinstance(asked.inputs, list) else shown[0], headers=phases_of(lane, answer))


def _show_span(text: str, span: Span) -> TextSpan:
    return {
        "label": span.label,
        "score": span.score,
        "start": span.start,
        "end": span.stop,
        "text": text[span.start : span.stop],
    }


def _show_answer(text: str, found: Found, nothing: float) -> FoundAnswer:
    return {
        "answer": text[found.start : found.stop],
        "score": found.score,
        "start": found.start,
        "end": found.stop,
        "no_answer_score": nothing,
    }
