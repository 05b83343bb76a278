"""The threshold of a cascade: the exact bound, the promise it keeps, and the command that chooses it."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from serve_bundles import WORDS, make_bundle

from pipeline.__main__ import main
from serve.runtime import Runtime
from serve.trust.bound import allowed_failures, fewest, lower_bound, wilson
from serve.trust.calibration import choose_threshold, operate, read_calibration
from serve.trust.confidence import confidence_of
from serve.trust.window import Drift, Share, distance

FIXED = settings(deadline=None, derandomize=True, max_examples=80)


@FIXED
@given(st.integers(1, 4000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_the_bound_is_exact(counts):
    """Oracle: scipy's Clopper-Pearson interval, one-sided."""
    successes, total = counts
    found = stats.binomtest(successes, total, alternative="greater").proportion_ci(0.95, method="exact").low
    assert lower_bound(successes, total) == pytest.approx(found, rel=1e-9, abs=1e-12)


@FIXED
@given(st.integers(1, 1500), st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999]))
def test_so_many_may_fail_and_not_one_more(total, level):
    """Oracle: the bound itself; and the closed form of how many texts it takes when none fails."""
    allowed = allowed_failures(total, level)
    assert (allowed is None) == (total < fewest(level))
    if allowed is not None:
        assert lower_bound(total - allowed, total) >= level - 1e-12
        assert lower_bound(total - allowed - 1, total) < level


def test_how_many_texts_it_takes():
    """Oracle: 0.99 to the power of 299 is the first below 5 %."""
    assert 0.99**299 <= 0.05 < 0.99**298
    assert fewest(0.99) == 299


@FIXED
@given(st.integers(0, 300).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_wilson(counts):
    """Oracle: scipy's."""
    successes, total = counts
    if total:
        found = stats.binomtest(successes, total).proportion_ci(0.95, method="wilson")
        assert wilson(successes, total) == pytest.approx((found.low, found.high), abs=1e-9)


def test_confidence():
    """Oracle: the softmax of scipy, also where exponents would overflow."""
    logits = np.array([[0, 1, 2], [1000, 0, 0], [-1000, -1000, -1000]], dtype=np.float32)
    from scipy.special import softmax

    assert confidence_of(logits) == pytest.approx(softmax(logits.astype(float), axis=1).max(axis=1))


sure = st.sampled_from([0.3, 0.5, 0.7, 0.9, 0.99, 1.0])
seen = st.lists(st.tuples(sure, st.booleans()), min_size=1, max_size=60)


@FIXED
@given(seen, st.sampled_from([0.5, 0.7, 0.9]))
def test_the_lowest_threshold_that_is_proved(rows, level):
    """Oracle: every threshold there is, walked down from the highest until one is not proved; ties among them."""
    confidence, agrees = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    expected = 1.0
    for threshold in sorted({1.0, 0.0, *confidence.tolist()}, reverse=True):
        if operate(confidence, agrees, threshold).agreement_low < level:
            break
        expected = threshold
    found = choose_threshold(confidence, agrees, level=level)
    assert (confidence > found).tolist() == (confidence > expected).tolist()


@FIXED
@given(seen, st.floats(0, 1))
def test_what_a_cascade_does_at_a_threshold(rows, threshold):
    """Oracle: each text asked, the teacher's label being 0 and a student that disagrees saying 1."""
    says = [(0 if agrees else 1) if confidence > threshold else 0 for confidence, agrees in rows]
    found = operate(np.array([row[0] for row in rows]), np.array([row[1] for row in rows]), threshold)
    assert found.agreed == says.count(0)
    assert found.answered_share == pytest.approx(sum(confidence > threshold for confidence, _ in rows) / len(rows))


@pytest.mark.parametrize("level", [0.9, 0.97])
def test_the_promise_holds(level):
    """Oracle: a world whose true agreement is known everywhere. Of 2,000 calibrations at most 5 % may fall short.

    The student is right with a chance equal to its confidence, which is uniform between 0 and 1, so that above a
    threshold t it disagrees on a share (1 - t)^2 / 2 of all texts. At that rate the count of calibrations that fall
    short has a mean of 100 and a deviation of 10: beyond 140 the promise is broken.
    """
    random = np.random.default_rng(7)
    short, answered = 0, []
    for _ in range(2000):
        confidence = random.random(400)
        threshold = choose_threshold(confidence, random.random(400) < confidence, level=level)
        short += 1 - (1 - threshold) ** 2 / 2 < level
        answered.append(1 - threshold)
    assert short <= 140
    # And it is no empty promise: the most that could be answered is the root of twice the share that may be wrong.
    assert np.mean(answered) > 0.6 * np.sqrt(2 * (1 - level))


@FIXED
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_distance(one, other):
    """Oracle: the two distribution functions, counted at every value."""
    gaps = [abs(np.mean(np.array(one) <= value) - np.mean(np.array(other) <= value)) for value in one + other]
    assert distance(one, other) == pytest.approx(max(gaps), abs=1e-12)


@FIXED
@given(st.lists(st.lists(st.booleans(), max_size=7), max_size=20), st.integers(1, 9))
def test_share_of_the_last(batches, size):
    """Oracle: the list's end."""
    share, everything = Share(size), []
    for batch in batches:
        share.add(batch)
        everything += batch
        assert (share.count, len(share)) == (sum(everything[-size:]), len(everything[-size:]))


def test_drift_is_told_of_whole_windows():
    """Oracle: the statistic of the two samples; nothing before there are two."""
    drift = Drift(10)
    assert [drift.add([value / 10]) for value in range(10)] == [None] * 10
    assert [drift.add([0.95]) for _ in range(10)] == [None] * 9 + [1.0]
    assert drift.add([0.0]) == pytest.approx(0.8 + 0.1)  # the reference is known: one in ten is told of
    assert Drift(2, [0.0, 1.0]).add([0.0, 1.0]) == 0


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return tuple(make_bundle(folder / name, name=name, seed=seed) for seed, name in ((0, "student"), (7, "teacher")))


def write_texts(path: Path, count: int) -> list[str]:
    random = np.random.default_rng(3)
    texts = [" ".join(random.choice(WORDS, size=random.integers(1, 6))) for _ in range(count)]
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text, "label": 0}) + "\n\n" for text in texts)
    return texts


@pytest.mark.parametrize("name", ["texts.jsonl", "texts.jsonl.gz"])
def test_the_command(bundles, tmp_path, capsys, name):
    """Oracle: both models asked here, and every threshold tried."""
    student, teacher = bundles
    texts = write_texts(tmp_path / name, 300)
    out = tmp_path / "new" / "calibration.json"
    asked = ["--texts", str(tmp_path / name), "--level", "0.8", "--out", str(out)]
    assert main(["calibrate", str(student), str(teacher), *asked]) == 0
    told = json.loads(capsys.readouterr().out)
    found = read_calibration(out)
    assert told["chosen"]["threshold"] == found.chosen.threshold
    runtimes = [Runtime.open(student, "int8"), Runtime.open(teacher, "float32")]
    assert [(side.name, side.digest) for side in (found.student, found.teacher)] == [
        ("student/int8", runtimes[0].digest), ("teacher/float32", runtimes[1].digest),
    ]  # fmt: skip
    logits = [runtime.run(texts).logits for runtime in runtimes]
    confidence, agrees = confidence_of(logits[0]), logits[0].argmax(axis=1) == logits[1].argmax(axis=1)
    assert found.chosen == operate(confidence, agrees, found.chosen.threshold)
    assert found.chosen.agreement_low >= 0.8
    assert 0 < found.chosen.answered_share < 1
    assert (found.frontier[0].answered_share, found.frontier[-1].answered_share) == (0, 1)
    shares = [row.answered_share for row in found.frontier]
    assert shares == sorted(shares)


def test_what_the_command_refuses(bundles, tmp_path, capsys):
    """Oracle: exit code 2 and a message that says what to do."""
    student, teacher = (str(bundle) for bundle in bundles)
    write_texts(tmp_path / "few.jsonl", 298)
    (tmp_path / "broken.jsonl").write_text('{"text": "a"}\n{"words": 1}\n')
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "lied.jsonl.gz").write_bytes(b"no gzip")
    ranking = str(make_bundle(tmp_path / "ranking", name="ranking", task="ranking"))

    def refuse(*arguments: str) -> str:
        assert main(["calibrate", *arguments, "--out", str(tmp_path / "out.json")]) == 2
        return capsys.readouterr().err

    few = ["--texts", str(tmp_path / "few.jsonl")]
    assert "give at least 299 texts" in refuse(student, teacher, *few)
    assert "does not choose one of several labels" in refuse(student, ranking, *few)
    assert "between 0 and 1" in refuse(student, teacher, *few, "--level", "1")
    assert "line 2, has no text" in refuse(student, teacher, "--texts", str(tmp_path / "broken.jsonl"))
    assert "there is no text" in refuse(student, teacher, "--texts", str(tmp_path / "empty.jsonl"))
    assert "cannot read texts" in refuse(student, teacher, "--texts", str(tmp_path / "lied.jsonl.gz"))
    assert "cannot read texts" in refuse(student, teacher, "--texts", str(tmp_path / "absent.jsonl"))
    assert "has no precision 'int2'" in refuse(student, teacher, *few, "--student-precision", "int2")
    assert not (tmp_path / "out.json").exists()
