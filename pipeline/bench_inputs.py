"""What every contestant is asked: the test split's own texts, pairs or queries, or texts made to given lengths."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from artifact.dataset import Task, read_info, read_split
from artifact.errors import ConfigError, DataError
from artifact.progress import say
from pipeline.bench_config import BenchConfig, BenchRequest
from pipeline.rows_config import PYTORCH
from pipeline.tasks import TASKS, kind_of_data
from serve.bundle import DESCRIPTION, TOKENIZER
from serve.latency.inputs import count_special, make_texts, open_plain_tokenizer
from serve.latency.plan import Asked, Workload

OFFLINE_BATCHES = 2
"""Full batches of one turn."""

Histogram = dict[int, int]
"""Tokens to how many texts had so many."""

LONGEST_TOKENS = 100_000
_Tokens = Annotated[int, Field(gt=0, le=LONGEST_TOKENS)]
_Count = Annotated[int, Field(ge=0, le=10**12)]
_HISTOGRAM: TypeAdapter[Histogram] = TypeAdapter(Annotated[dict[_Tokens, _Count], Field(min_length=1)])


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A workload, and what of it which row is asked."""

    workload: Workload
    max_tokens: Mapping[str, int | None]
    """By row; None where it is not known."""
    facts: Mapping[str, Any]
    task: Task = "classification"

    @property
    def path(self) -> str:
        """The route that answers it over HTTP."""
        return TASKS[self.task].path


def make_inputs(config: BenchRequest, root: Path) -> Inputs:
    """The texts that `config` asks for, for the rows below the output folder `root`.

    Raises `DataError` without texts, `ConfigError` for a length or histogram that makes no sense, `BenchError` when
    the first bundle's tokenizer knows no words to make texts of.
    """
    max_tokens = read_max_tokens(config.rows, root)
    longest = max((limit for limit in max_tokens.values() if limit is not None), default=None)
    tokenizer = next((path for row in config.rows if (path := _tokenizer(row, root)).is_file()), None)
    info = read_info(root / "data")
    kind = kind_of_data(info)
    if (config.lengths or config.histogram) and not kind.asks_texts:
        problem = f"bench.lengths and bench.histogram make single texts, which a model for {info.task} is not asked"
        raise ConfigError(problem, "leave them out: the test split's own are measured")
    facts: dict[str, Any] = {}
    by_length: dict[int, tuple[str, ...]] = {}
    if config.lengths:
        facts["lengths_left_out"] = left_out = leave_out(config.lengths, max_tokens)
        asked = [tokens for tokens in sorted({*config.lengths}) if longest is None or tokens <= longest]
        by_length = texts_by_length(config, asked, _needed(tokenizer, "lengths"))
        if left_out:
            cut = (f"{row} would cut {_list(tokens)} tokens" for row, tokens in left_out.items())
            say("  left out: " + "; ".join(cut))
    if config.histogram is None:
        texts: Sequence[Asked] = [kind.benched(example) for example in read_split(root / "data", "test")]
    else:
        texts, facts["histogram"] = replay(config, longest, _needed(tokenizer, "histogram"))
    workload = make_workload(config, texts, by_length)
    if kind.open_benched is not None and workload.queries_per_round:
        facts["MultiStream"] = "left out: each query is many texts already"
        workload = replace(workload, queries_per_round=0)
    facts = {"texts": len(workload.texts), **facts}
    return Inputs(workload=workload, max_tokens=max_tokens, facts=facts, task=info.task)


def make_workload(
    config: BenchConfig, texts: Sequence[Asked], by_length: Mapping[int, tuple[str, ...]] | None = None
) -> Workload:
    """`config.texts` of the texts, drawn once with the seed (all of them when there are fewer), and their rounds.

    Raises `DataError` when there is no text.
    """
    if not texts:
        raise DataError("the test split is empty, so there is nothing to measure")
    chosen = np.random.default_rng(config.seed).permutation(len(texts))[: config.texts]
    return Workload(
        texts=tuple(texts[index] for index in chosen),
        rounds=config.rounds,
        calls_per_round=config.calls_per_round,
        openings=config.openings,
        settle_ms=config.settle_ms,
        parts=config.parts,
        batch_size=config.batch_size,
        batches_per_round=OFFLINE_BATCHES if "Offline" in config.scenarios else 0,
        streams=config.streams,
        queries_per_round=config.queries_per_round if "MultiStream" in config.scenarios else 0,
        by_length=by_length or {},
        calls_per_length=config.queries_per_round,
        seed=config.seed,
    )


def texts_by_length(config: BenchConfig, lengths: Sequence[int], tokenizer: Path) -> dict[int, tuple[str, ...]]:
    """Texts of exactly each of `lengths`, special tokens included, as that `tokenizer.json` counts.

    Raises `ConfigError` for a length that leaves no room for a word.
    """
    counter = open_plain_tokenizer(tokenizer)
    shortest = count_special(counter) + 1
    if short := [tokens for tokens in lengths if tokens < shortest]:
        raise ConfigError(f"bench.lengths holds {short[0]}, the shortest text there is has {shortest} tokens")
    count = min(config.texts, config.rounds * config.queries_per_round)
    made = {tokens: make_texts(counter, [tokens] * count, config.seed + tokens) for tokens in lengths}
    return {tokens: tuple(one.text for one in texts) for tokens, texts in made.items()}


def read_histogram(path: Path) -> Histogram:
    """The histogram in that file; `ConfigError` when it is missing, no JSON, or maps no tokens to counts."""
    hint = 'write JSON such as {"16": 120, "64": 30}: tokens, and how many texts had so many'
    try:
        found = _HISTOGRAM.validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"bench.histogram: cannot read {path}: {error.strerror}", hint) from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"] if part != "[key]")
        says = ": ".join(filter(None, (where, fault["msg"])))
        raise ConfigError(f"bench.histogram: {path} is no histogram: {says}", hint) from None
    if not sum(found.values()):
        raise ConfigError(f"bench.histogram: {path} counts no text at all", hint)
    return found


def replay(config: BenchRequest, longest: int | None, tokenizer: Path) -> tuple[list[str], dict[str, Any]]:
    """Texts of lengths drawn with the seed from the recipe's histogram, and what was drawn.

    What is longer than `longest`, which every row would cut, is as long as that; what leaves no room for a word is one.
    """
    histogram = read_histogram(config.histogram or Path())
    lengths, counts = np.array(sorted(histogram.items())).T
    drawn = np.random.default_rng(config.seed).choice(lengths, size=config.texts, p=counts / counts.sum())
    cut = drawn if longest is None else np.minimum(drawn, longest)
    made = make_texts(open_plain_tokenizer(tokenizer), cut.tolist(), config.seed)
    tokens = [one.tokens for one in made]
    facts = {"median_tokens": float(np.median(tokens)), "longest_tokens": max(tokens), "cut": int((cut < drawn).sum())}
    return [one.text for one in made], facts


def read_max_tokens(rows: Sequence[str], root: Path) -> dict[str, int | None]:
    """Longest text of each row, as its model or bundle says; of rows that are neither, the shortest of those."""
    known = {row: _read_max_tokens(_description(row, root)) for row in rows if "/" in row}
    shortest = min((limit for limit in known.values() if limit is not None), default=None)
    return {row: known.get(row, shortest) for row in rows}


def leave_out(lengths: Sequence[int], max_tokens: Mapping[str, int | None]) -> dict[str, list[int]]:
    """By row, the lengths that are beyond it; rows that read all of them are not named."""
    ordered = sorted({*lengths})
    beyond = {
        row: [tokens for tokens in ordered if limit is not None and tokens > limit] for row, limit in max_tokens.items()
    }
    return {row: tokens for row, tokens in beyond.items() if tokens}


def _read_max_tokens(path: Path) -> int | None:
    """None where there is no such file; whoever opens the row says what is wrong."""
    return int(json.loads(path.read_text(encoding="utf-8"))["max_tokens"]) if path.is_file() else None


def _description(row: str, root: Path) -> Path:
    model, _, precision = row.partition("/")
    return root / ("models" if precision.startswith(PYTORCH) else "bundles") / model / DESCRIPTION


def _tokenizer(row: str, root: Path) -> Path:
    return root / "bundles" / row.partition("/")[0] / TOKENIZER


def _needed(tokenizer: Path | None, field: str) -> Path:
    if tokenizer is None:
        raise ConfigError(f"bench.{field} needs a bundle, whose tokenizer counts", "export a model first")
    return tokenizer


def _list(tokens: Sequence[int]) -> str:
    return ", ".join(map(str, tokens))
