"""Files of NOESIS II (DSTC 8, track 2) beyond choosing a response: conversations in a channel, and where they succeed.

Subtask 4 links messages, counted from 0 in a log of one message a line. A line of links is `1002 1003 -`, as in the
annotations of the corpus (Kummerfeld et al., ACL 2019); a line of a conversation is its messages, `1000 1002 1003`.
Either may begin with the name of its log: `2004-11-15_03:1002 1003 -`. Links say what messages from 1000 on are
answers to, so that these are what is scored; whatever links connect is one conversation.

Subtask 3 says of a dialogue which proposals were accepted or rejected, and by which utterance.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from artifact.errors import DataError
from pipeline.scores.clusters import cluster_scores

FIRST = 1000
"""First message that the track scores: those before it are context."""
COMMENTS = ("#", "%", "/")
LINES = "write `1002 1003 -` for a link, or `1000 1002 1003` for a conversation"


class Message(NamedTuple):
    """A line of a log."""

    log: str
    """Empty where the file names none."""
    number: int


Link = tuple[Message, Message]
Conversations = Mapping[Message, int]
"""The number of each message's conversation; the numbers themselves mean nothing."""


class Decision(BaseModel):
    """What became of a proposal."""

    model_config = ConfigDict(frozen=True, strict=True)

    label: Literal["Accept", "Reject", "No Decision Yet"]
    position: int = Field(ge=-1)
    """Of the utterance that decides, from 0; -1 where none does."""


class Dialogue(BaseModel):
    """As much of a dialogue as says whether it succeeds; of other fields, such as its messages, nothing is read."""

    model_config = ConfigDict(frozen=True, strict=True, populate_by_name=True)

    example_id: int | str = Field(alias="example-id")
    decisions: tuple[Decision, ...] = Field(alias="success-labels", strict=False)


def read_links(path: Path) -> list[Link]:
    """The links of a file, or of all `*.annotation.txt` of a folder; `DataError` for a line that is none.

    A message that is linked to itself begins a conversation.
    """
    return [_link(place, log, words) for place, log, words in _lines(path)]


def read_conversations(path: Path, *, first: int = FIRST) -> Conversations:
    """The conversations of a file of either kind, or of a folder of links, as far as messages from `first` on go.

    Raises `DataError`: a line of neither kind, files of both, a message of two conversations, or nothing to score.
    """
    lines = list(_lines(path))
    linked = {words[-1:] == ["-"] for _, _, words in lines}
    if len(linked) > 1:
        raise DataError(f"{path} holds links and conversations", LINES)
    if linked == {True}:
        found = connect((_link(place, log, words) for place, log, words in lines), first=first)
    else:
        found = _read_members(lines, first)
    if not found:
        raise DataError(f"{path} has no message from {first} on", "count messages from 0, or name another `--first`")
    return found


def connect(links: Iterable[Link], *, first: int = 0) -> Conversations:
    """Messages that links lead to from one another, over earlier ones too, are one conversation.

    Conversations are numbered by their first messages; messages before `first` are left out at the end.
    """
    parents: dict[Message, Message] = {}

    def find(message: Message) -> Message:
        parents.setdefault(message, message)
        while parents[message] != message:
            parents[message] = parents[parents[message]]
            message = parents[message]
        return message

    for left, right in links:
        earlier, later = sorted((find(left), find(right)))
        parents[later] = earlier
    roots = {message: find(message) for message in sorted(parents) if message.number >= first}
    numbers = {root: number for number, root in enumerate(dict.fromkeys(roots.values()))}
    return {message: numbers[root] for message, root in roots.items()}


def write_links(path: Path, links: Iterable[Link]) -> None:
    """A line for each, the earlier message first, as the corpus has them."""
    _write(path, (f"{_log(left)}{left.number} {right.number} -" for left, right in map(sorted, links)))


def write_conversations(path: Path, conversations: Conversations) -> None:
    """A line for each, its messages in order."""
    members: dict[tuple[str, int], list[Message]] = defaultdict(list)
    for message in sorted(conversations):
        members[message.log, conversations[message]].append(message)
    rows = members.values()
    _write(path, (_log(row[0]) + " ".join(str(message.number) for message in row) for row in rows))


def read_success(path: Path) -> Mapping[int | str, frozenset[Decision]]:
    """What was decided in each dialogue of a JSON list, by its id; `DataError` for what is no such list."""
    try:
        dialogues = TypeAdapter(list[Dialogue]).validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the whole file"
        hint = 'expected [{"example-id": 1, "success-labels": [{"label": "Accept", "position": 8}]}, ...]'
        raise DataError(f"{path}: {where}: {fault['msg']}", hint) from None
    found = {dialogue.example_id: frozenset(dialogue.decisions) for dialogue in dialogues}
    if len(found) < len(dialogues) or not found:
        raise DataError(f"{path} has {len(dialogues)} dialogues of {len(found)} ids", "give each dialogue its own")
    return found


def write_success(path: Path, decisions: Mapping[int | str, Iterable[Decision]]) -> None:
    """The same list, the decisions of a dialogue in the order of their positions."""
    rows = [
        {"example-id": name, "success-labels": [each.model_dump() for each in sorted(found, key=_place)]}
        for name, found in decisions.items()
    ]
    _write(path, [json.dumps(rows, ensure_ascii=False, indent=1)])


def score_conversations(truth: Conversations, found: Conversations) -> Mapping[str, float]:
    """`pipeline.scores.clusters` over all messages of all logs; `DataError` unless both are of the same messages."""
    _check_same("messages", [f"{_log(each)}{each.number}" for each in truth],
                [f"{_log(each)}{each.number}" for each in found])  # fmt: skip
    named = [[(message.log, names[message]) for message in truth] for names in (truth, found)]
    return cluster_scores(*named)


def score_success(
    truth: Mapping[int | str, frozenset[Decision]], found: Mapping[int | str, frozenset[Decision]]
) -> Mapping[str, float]:
    """Shares of dialogues: `accuracy` of what was decided, as the track has it, `position_accuracy` of where as well.

    Of a dialogue of several decisions all have to be found, and no other. `DataError` unless both are of the same.
    """
    _check_same("dialogues", truth, found)
    labels = [{each.label for each in truth[name]} == {each.label for each in found[name]} for name in truth]
    places = [truth[name] == found[name] for name in truth]
    return {"accuracy": sum(labels) / len(labels), "position_accuracy": sum(places) / len(places)}


def _lines(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Where each line stands, its log, and its words."""
    inside = sorted(path.glob("*.annotation.txt"))
    files = {file.name: file for file in inside} if path.is_dir() else {"": path}
    if not files:
        raise DataError(f"{path} holds no *.annotation.txt", "name a file, or a folder of such")
    for name, file in files.items():
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            raise DataError(f"cannot read {file}", LINES) from None
        for number, line in enumerate(lines, start=1):
            log, _, rest = line.rpartition(":")
            if line.strip() and not line.startswith(COMMENTS):
                yield f"line {number} of {file}", log.rpartition("/")[2] or name, rest.split()


def _link(place: str, log: str, words: Sequence[str]) -> Link:
    left, right = _numbers(place, words[:-1] if words[-1:] == ["-"] else words, 2)
    return Message(log, left), Message(log, right)


def _read_members(lines: Iterable[tuple[str, str, list[str]]], first: int) -> Conversations:
    found: dict[Message, int] = {}
    for conversation, (place, log, words) in enumerate(lines):
        for number in _numbers(place, words):
            if found.setdefault(Message(log, number), conversation) != conversation:
                raise DataError(f"{place}: message {number} stands in two conversations", "leave it in one")
    return {message: conversation for message, conversation in found.items() if message.number >= first}


def _numbers(place: str, words: Sequence[str], count: int | None = None) -> list[int]:
    if (count is not None and len(words) != count) or not all(word.isascii() and word.isdigit() for word in words):
        raise DataError(f"{place} is {' '.join(words)[:60]!r}", LINES)
    return [int(word) for word in words]


def _check_same(things: str, truth: Iterable[int | str], found: Iterable[int | str]) -> None:
    truths, answers = set(truth), set(found)
    strange = sorted(map(str, truths ^ answers))
    if strange:
        problem = f"{len(answers - truths)} {things} are not in the truth, and {len(truths - answers)} are missing"
        raise DataError(problem, f"the first is {strange[0]}; both files have to be of the same {things}")


def _log(message: Message) -> str:
    return f"{message.log}:" if message.log else ""


def _place(decision: Decision) -> tuple[int, str]:
    return decision.position, decision.label


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
