"""NOESIS II's files of conversations and of success: read, written again, and scored, on small ones of our own."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifact.errors import DataError
from pipeline.__main__ import main
from pipeline.noesis import (
    Decision,
    Message,
    connect,
    read_conversations,
    read_links,
    read_success,
    score_conversations,
    score_success,
    write_conversations,
    write_links,
    write_success,
)

LINKS = """\
# two conversations, of which the first goes on from before, and a message that nobody answers
998 1000 -
1000 1002 -
998 1001 -
1003 1003 -
1003 1004 -
1005 1005 -
"""
TRUTH = "1000 1001 1002\n1003 1004\n1005\n"
FOUND = "1000 1001 1002\n1003\n1004 1005\n"
NUMBERS = st.integers(0, 12)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def members(conversations) -> list[list[int]]:
    count = 1 + max(conversations.values())
    return [[message.number for message, name in conversations.items() if name == number] for number in range(count)]


def test_links_make_conversations(tmp_path):
    """Oracle: by hand: what a message before 1000 joins is joined, and that message itself is not scored."""
    links = write(tmp_path / "links", LINKS)
    found = read_conversations(links)
    assert members(found) == [[1000, 1001, 1002], [1003, 1004], [1005]]
    assert found == read_conversations(write(tmp_path / "clusters", TRUTH))
    assert members(read_conversations(links, first=0))[0] == [998, 1000, 1001, 1002]


@settings(max_examples=60, deadline=None)
@given(links=st.lists(st.tuples(st.sampled_from(["", "b"]), NUMBERS, NUMBERS), min_size=1, max_size=15))
def test_conversations_are_connected_components(links):
    """Oracle: scipy's connected components of the same graph."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    found = connect((Message(log, left), Message(log, right)) for log, left, right in links)
    place = {message: number for number, message in enumerate(found)}
    rows, columns = ([place[Message(link[0], link[side])] for link in links] for side in (1, 2))
    graph = coo_matrix((np.ones(len(links)), (rows, columns)), shape=(len(place), len(place)))
    _, expected = connected_components(graph, directed=False)
    names = list(found.values())
    assert len(set(zip(names, expected.tolist(), strict=True))) == len(set(names)) == len(set(expected))


def test_files_are_written_as_they_are_read(tmp_path):
    """Oracle: the text that was read, in the corpus's order, and the same content."""
    text = "a:998 1000 -\na:1000 1002 -\nb:1000 1000 -\n"
    links = read_links(write(tmp_path / "links", text))
    write_links(tmp_path / "again", [(right, left) for left, right in links])
    assert (tmp_path / "again").read_text() == text
    write_conversations(tmp_path / "clusters", connect(links, first=1000))
    assert (tmp_path / "clusters").read_text() == "a:1000 1002\nb:1000\n"
    assert read_conversations(tmp_path / "clusters") == connect(links, first=1000)


def test_a_folder_is_all_its_logs(tmp_path):
    """Oracle: the same links in one file, each with the name of its log."""
    for log in ("x", "y"):
        write(tmp_path / f"{log}.annotation.txt", LINKS)
    named = "".join(f"{log}.annotation.txt:{line}\n" for log in "xy" for line in LINKS.splitlines() if line[0] != "#")
    assert read_conversations(tmp_path) == read_conversations(write(tmp_path / "all", named))


def test_conversations_are_scored(tmp_path, capsys):
    """Oracle: exact matches and the variation of information by hand; scikit-learn for the two adjusted measures."""
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

    truth, found = write(tmp_path / "links", LINKS), write(tmp_path / "found", FOUND)
    assert main(["score", "clusters", str(truth), str(found)]) == 0
    scores = json.loads(capsys.readouterr().out)
    # One of two conversations of several messages, on either side.
    assert [scores[name] for name in ("precision", "recall", "f1")] == [0.5, 0.5, 0.5]
    # Groups of 3, 2 and 1 on either side; together groups of 3, 1, 1 and 1. All of six messages.
    own = 3 / 6 * np.log2(6 / 3) + 2 / 6 * np.log2(6 / 2) + 1 / 6 * np.log2(6)
    both = 3 / 6 * np.log2(6 / 3) + 3 / 6 * np.log2(6)
    assert scores["scaled_variation_of_information"] == pytest.approx(1 - (2 * both - 2 * own) / np.log2(6))
    codes = [0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 2, 2]
    assert scores["adjusted_rand"] == pytest.approx(adjusted_rand_score(*codes))
    assert scores["adjusted_mutual_information"] == pytest.approx(adjusted_mutual_info_score(*codes))
    assert main(["score", "clusters", str(truth), str(truth)]) == 0
    assert set(json.loads(capsys.readouterr().out).values()) == {1.0}


@pytest.mark.parametrize(("text", "words"), [
    ("1000 1001 -\n1002 1003\n", "holds links and conversations"),
    ("1000 1001 1002 -\n", "line 1 of .* is '1000 1001 1002'"),
    ("1000 x\n", "line 1 of .* is '1000 x'"),
    ("1000 -1\n", "line 1 of .* is '1000 -1'"),
    ("1000 1001\n1001 1002\n", "message 1001 stands in two conversations"),
    ("1 2 -\n", "has no message from 1000 on"),
    ("", "has no message from 1000 on"),
])  # fmt: skip
def test_files_that_are_none(tmp_path, text, words):
    """Oracle: by hand; each in words that say where."""
    with pytest.raises(DataError, match=words):
        read_conversations(write(tmp_path / "file", text))


def test_only_the_same_messages_are_compared(tmp_path, capsys):
    """Oracle: by hand; a fault of the input is exit code 2, and no number is printed."""
    truth, other = write(tmp_path / "truth", TRUTH), write(tmp_path / "other", "1000 1001\n1002 1003 1004 1006 1007\n")
    with pytest.raises(DataError, match="2 messages are not in the truth, and 1 are missing"):
        score_conversations(read_conversations(truth), read_conversations(other))
    assert main(["score", "clusters", str(truth), str(other)]) == 2
    assert main(["score", "clusters", str(truth), str(tmp_path / "nowhere")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "cannot read" in err


def dialogues(*decided: list[tuple[str, int]]) -> list[dict]:
    return [
        {"example-id": number, "messages-so-far": [{"speaker": "student", "utterance": "ok"}],
         "success-labels": [{"label": label, "position": position} for label, position in found]}
        for number, found in enumerate(decided)
    ]  # fmt: skip


def test_success_is_scored(tmp_path, capsys):
    """Oracle: by hand: the first is right, the second at another place, the third otherwise, the fourth lacks one."""
    truth = dialogues([("Accept", 8)], [("Reject", 4)], [("No Decision Yet", -1)], [("Reject", 3), ("Accept", 9)])
    found = dialogues([("Accept", 8)], [("Reject", 5)], [("Accept", 2)], [("Accept", 9)])
    files = [write(tmp_path / name, json.dumps(rows)) for name, rows in (("truth", truth), ("found", found))]
    assert main(["score", "success", *map(str, files)]) == 0
    assert json.loads(capsys.readouterr().out) == {"accuracy": 0.5, "position_accuracy": 0.25}
    write_success(tmp_path / "again", read_success(files[0]))
    again = read_success(tmp_path / "again")
    assert again == read_success(files[0])
    assert again[3] == {Decision(label="Reject", position=3), Decision(label="Accept", position=9)}
    assert score_success(again, again) == {"accuracy": 1.0, "position_accuracy": 1.0}


@pytest.mark.parametrize(("text", "words"), [
    ("{}", "the whole file: "), ("[", "the whole file: "), ("[{}]", "0.example-id"), ("[]", "0 dialogues"),
    (json.dumps(dialogues([("Perhaps", 1)])), "0.success-labels.0.label"),
    (json.dumps(dialogues([("Accept", -2)])), "0.success-labels.0.position"),
    (json.dumps(dialogues([]) * 2), "2 dialogues of 1 ids"),
])  # fmt: skip
def test_dialogues_that_are_none(tmp_path, text, words):
    """Oracle: by hand."""
    with pytest.raises(DataError, match=words):
        read_success(write(tmp_path / "file", text))
    with pytest.raises(DataError, match="1 are missing"):
        score_success({1: frozenset(), 2: frozenset()}, {1: frozenset()})
