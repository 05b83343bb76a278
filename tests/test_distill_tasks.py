"""Training for every task: what a model reads of an example, what it is told, and that it learns it."""

import itertools
import json
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from tiny_models import WORDS, make_tokenizer, read_weights, save_teacher, seal_dataset, train_student
from transformers import (
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertModel,
)

from artifact.dataset import Answer, Example
from artifact.errors import ModelError
from distill.batch import InputForm, collate_padded
from distill.batching import FeedPosition, Plan
from distill.capture import Seen, Wanted, observe
from distill.config import ModelConfig
from distill.examples import Reads, read_examples
from distill.heads import Head, load_model
from distill.judging import judged
from distill.objectives.labels import chance_loss, labels_loss, quantity_loss
from distill.objectives.logits import chance_divergence, logits_loss
from distill.objectives.ranking import contrastive_loss
from distill.text import Texts

TAGS = ("O", "B-PER", "I-PER")


def words_at(text: str) -> tuple[tuple[int, int], ...]:
    places, start = [], 0
    for word in text.split(" "):
        places.append((start, start + len(word)))
        start += len(word) + 1
    return tuple(places)


def drawn(count: int, seed: int) -> list[list[str]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 9, (count,), generator=generator).tolist()
    return [[WORDS[int(i)] for i in torch.randint(len(WORDS), (n,), generator=generator)] for n in lengths]


def pairs(count: int, seed: int) -> list[Example]:
    """Alike when both begin with the same word."""
    rows = []
    for number, words in enumerate(drawn(count, seed)):
        other = words[0] if number % 2 else WORDS[(WORDS.index(words[0]) + 5) % len(WORDS)]
        rows.append(Example(text=words[0], pair=other, label=number % 2))
    return rows


def quantities(count: int, seed: int) -> list[Example]:
    return [
        Example(text=" ".join(words), value=float("music" in words) * 2 + float("light" in words))
        for words in drawn(count, seed)
    ]


def tagged(count: int, seed: int) -> list[Example]:
    rows = []
    for words in drawn(count, seed):
        text = " ".join(words)
        tags = tuple(1 if word == "jazz" else 2 if word == "rock" else 0 for word in words)
        rows.append(Example(text=text, words=words_at(text), tags=tags))
    return rows


def asked(count: int, seed: int) -> list[Example]:
    """The answer is `music` where there is one."""
    rows = []
    for words in drawn(count, seed):
        context = " ".join(words)
        place = context.find("music")
        answers = (Answer(start=place, text="music"),) if place >= 0 else ()
        rows.append(Example(text="what is it", pair=context, answers=answers))
    return rows


def next_to(words: list[str]) -> str:
    return "music please" if "play" in words else "time please"


def utterances(count: int, seed: int) -> list[Example]:
    """What comes next follows from a word; what is wrong comes next elsewhere."""
    return [Example(text=" ".join(words), pair=next_to(words)) for words in drawn(count, seed)]


def choices(count: int, seed: int) -> list[Example]:
    rows = []
    for number, words in enumerate(drawn(count, seed)):
        wrong = "time please" if "play" in words else "music please"
        others, right = [wrong, "it is", wrong], number % 4
        candidates = (*others[:right], next_to(words), *others[right:])
        rows.append(Example(text=" ".join(words), candidates=candidates, label=right))
    return rows


MAKERS = {
    "classification": (pairs, pairs, ("no", "yes"), AutoModelForSequenceClassification),
    "regression": (quantities, quantities, ("quantity",), AutoModelForSequenceClassification),
    "token-classification": (tagged, tagged, TAGS, AutoModelForTokenClassification),
    "question-answering": (asked, asked, (), AutoModelForQuestionAnswering),
    "response-selection": (utterances, choices, ("relevance",), AutoModelForSequenceClassification),
}


def teach(source, **more) -> ModelConfig:
    phase = {
        "name": "labels", "objectives": [{"kind": "labels"}], "epochs": 6, "learning_rate": 5e-3, "batch_size": 16,
        "dropout": 0.0,
    }  # fmt: skip
    start = {"kind": "checkpoint", "source": str(source)}
    return ModelConfig(**{"start": start, "max_tokens": 24, "phases": [phase | more.pop("phase", {})]} | more)


def make_data(root, task, train=200):
    maker, held_out, labels, _ = MAKERS[task]
    splits = {"train": maker(train, 1), "validation": held_out(60, 2), "test": held_out(20, 3)}
    seal_dataset(root / "data", labels=labels, splits=splits, task=task)


@pytest.mark.parametrize("task", MAKERS)
def test_every_task_is_learnt_and_taught_on(tmp_path, task):
    """Oracle: the answer follows from a word, so the loss must fall by half; transformers opens what was saved."""
    save_teacher(tmp_path / "start")
    make_data(tmp_path, task)
    facts = train_student(tmp_path, teach(tmp_path / "start"), "teacher", teacher="start")
    losses = [entry["validation_loss"] for entry in facts["evaluations"]]
    assert min(losses) < 0.5 * losses[0]
    kind = MAKERS[task][3]
    model, notes = kind.from_pretrained(tmp_path / "teacher", output_loading_info=True)
    assert not notes["missing_keys"]
    assert not notes["unexpected_keys"]
    if MAKERS[task][2]:
        assert tuple(model.config.id2label.values()) == MAKERS[task][2]
    assert json.loads((tmp_path / "teacher" / "understudy.json").read_text())["task"] == task
    student = ModelConfig(
        start={"kind": "layers", "layers": [1]}, teacher="teacher", max_tokens=24,
        phases=[{
            "name": "opinions", "objectives": [{"kind": "logits", "temperature": 2.0}], "epochs": 2,
            "learning_rate": 5e-3, "batch_size": 16, "cache_teacher": True,
        }],
    )  # fmt: skip
    taught = train_student(tmp_path, student, "student")["evaluations"]
    assert taught[-1]["validation_loss"] < taught[0]["validation_loss"]
    fidelity = [entry for entry in taught if "validation_accuracy" in entry]
    assert bool(fidelity) == (task in ("classification", "token-classification", "question-answering"))


def test_an_encoder_learns_to_match_and_is_saved_bare(tmp_path):
    """Oracle: the right answer follows from a word; transformers opens an encoder, with nothing missing."""
    save_teacher(tmp_path / "start")
    make_data(tmp_path, "response-selection")
    config = teach(tmp_path / "start", head="none", phase={"objectives": [{"kind": "contrastive"}]})
    losses = [entry["validation_loss"] for entry in train_student(tmp_path, config, teacher="start")["evaluations"]]
    assert min(losses) < 0.85 * losses[0]
    _, notes = AutoModel.from_pretrained(tmp_path / "student", output_loading_info=True)
    assert not notes["missing_keys"]
    assert not [name for name in read_weights(tmp_path / "student") if name.startswith("classifier")]
    assert json.loads((tmp_path / "student" / "tokenizer_config.json").read_text())["truncation_side"] == "left"


def test_pairs_are_read_as_transformers_reads_them():
    """Oracle: transformers' own call on each pair, types included, cut at the longer text."""
    tokenizer = make_tokenizer()
    rows = [Example(text="turn on the light", pair="music now"), Example(text="play", pair="jazz rock " * 20)]
    found = read_examples(tokenizer, rows, 16, Reads())
    for row, ids, types in zip(rows, found.ids, found.types, strict=True):
        expected = tokenizer(row.text, row.pair, truncation=True, max_length=16)
        assert ids.tolist() == expected["input_ids"]
        assert types.tolist() == expected["token_type_ids"]


def test_tags_stand_at_the_first_token_of_each_word():
    """Oracle: written by hand; `lights` is two pieces, and a piece after the cut has its own words' tags."""
    tokenizer = make_tokenizer()
    text = "play lights now please"
    row = Example(text=text, words=words_at(text), tags=(0, 1, 2, 0))
    found = read_examples(tokenizer, [row], 16, Reads(task="token-classification", labels=TAGS))
    pieces = tokenizer.convert_ids_to_tokens(found.ids[0].tolist())
    assert pieces == ["[CLS]", "play", "light", "##s", "now", "please", "[SEP]"]
    assert found.tags[0].tolist() == [-1, 0, 1, -1, 2, 0, -1]
    cut = read_examples(tokenizer, [row], 5, Reads(task="token-classification", labels=TAGS))
    assert [tags.tolist() for tags in cut.tags] == [[-1, 0, 1, -1, -1], [-1, 2, 0, -1]]


def test_a_word_of_several_parts_goes_on_with_its_tag():
    """Oracle: by hand: BERT's tokenizer parts `play-now` at the dash, and /tag asks each part."""
    row = Example(text="play-now it", words=((0, 8), (9, 11)), tags=(1, 0))
    found = read_examples(make_tokenizer(), [row], 16, Reads(task="token-classification", labels=TAGS))
    assert found.tags[0].tolist() == [-1, 1, 2, 2, 0, -1]
    alone = read_examples(make_tokenizer(), [row], 16, Reads(task="token-classification", labels=("O", "B-PER")))
    assert alone.tags[0].tolist() == [-1, 1, -1, -1, 0, -1]
    nouns = read_examples(make_tokenizer(), [row], 16, Reads(task="token-classification", labels=("DET", "NOUN")))
    assert nouns.tags[0].tolist() == [-1, 1, 1, 1, 0, -1]


def test_answers_are_found_in_the_window_that_has_them():
    """Oracle: the tokens named, read back as text, are the answer; other windows point to their first token."""
    tokenizer = make_tokenizer()
    context = "play some " * 12 + "music jazz " + "now please " * 6
    row = Example(text="what is it", pair=context, answers=(Answer(start=context.index("music"), text="music jazz"),))
    found = read_examples(tokenizer, [row], 20, Reads(task="question-answering"))
    assert len(found.ids) > 2
    spans = {
        tokenizer.decode(ids[first : last + 1])
        for ids, (first, last) in zip(found.ids, found.known, strict=True)
        if last
    }
    assert spans == {"music jazz"}
    assert (0, 0) in found.known
    nothing = read_examples(tokenizer, [row.model_copy(update={"answers": ()})], 20, Reads(task="question-answering"))
    assert set(nothing.known) == {(0, 0)}


def test_wrong_utterances_are_not_the_right_one_and_the_context_is_cut_at_its_beginning():
    """Oracle: counts, and the last turn that must be there."""
    tokenizer = make_tokenizer()
    tokenizer.truncation_side = "left"
    rows = [Example(text="play " * 30 + "music", pair="jazz"), Example(text="rock", pair="light")]
    found = read_examples(tokenizer, rows, 12, Reads(task="response-selection", negatives=2))
    assert sorted(found.known) == [0.0] * (len(found.known) - 2) + [1.0, 1.0]
    texts = [tokenizer.decode(ids) for ids in found.ids]
    assert len(set(texts)) == len(texts) or found.known.count(1.0) == 2
    assert "music [SEP] jazz" in texts[0]
    for text, known in zip(texts, found.known, strict=True):
        right = "jazz" if "play" in text else "light"
        assert (right in text) == (known == 1.0)
    chosen = read_examples(tokenizer, choices(4, 1), 12, Reads(task="response-selection", negatives=2))
    assert chosen.known == [1.0, 0.0, 0.0] * 4


def test_rows_of_a_corpus_weigh_as_their_texts_do():
    """Oracle: the mean over texts of the mean over their tokens, by a loop."""
    torch.manual_seed(0)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    batch = collate_padded([torch.arange(3), torch.arange(1)], [-1, -1], InputForm(0))
    teacher, student = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    rows = judged(Head(TAGS, "token-classification"), Seen(logits=teacher), Seen(logits=student), batch)
    found = logits_loss(rows.teacher.logits, rows.student.logits, 2.0, rows.weights)
    each = [
        torch.stack([logits_loss(teacher[b, s][None], student[b, s][None], 2.0) for s in range(3) if mask[b, s]]).mean()
        for b in range(2)
    ]
    torch.testing.assert_close(found, torch.stack(each).mean())


def test_an_answers_rivals_are_the_tokens_of_its_window():
    """Oracle: transformers' own loss of a batch without padding, and padding changes nothing."""
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 5, 2), [(1, 3), (0, 0)]
    alone = collate_padded([torch.arange(5)] * 2, labels, InputForm(0))
    longer = collate_padded([torch.arange(5), torch.arange(5), torch.arange(9)], [*labels, (0, 0)], InputForm(0))
    padded = torch.cat([logits, torch.full((2, 4, 2), 9.0)], dim=1)
    head = Head(task="question-answering")
    rows = judged(head, Seen(), Seen(logits=logits), alone)
    loss = torch.nn.functional.cross_entropy(rows.student.logits, rows.labels)
    expected = [torch.nn.functional.cross_entropy(logits[..., k], alone.labels[:, k]) for k in range(2)]
    torch.testing.assert_close(loss, sum(expected) / 2)
    wide = judged(head, Seen(), Seen(logits=torch.cat([padded, torch.zeros(1, 9, 2)])), longer)
    torch.testing.assert_close(torch.nn.functional.cross_entropy(wide.student.logits[:4], wide.labels[:4]), loss)


def test_losses_of_one_column():
    """Oracle: torch's own functions, and the two-class divergence written out."""
    torch.manual_seed(0)
    teacher, student, right = torch.randn(6, 1), torch.randn(6, 1), torch.tensor([1.0, 0, 0, 1, 0, 0])
    torch.testing.assert_close(quantity_loss(student, right), ((student[:, 0] - right) ** 2).mean())
    expected = -(
        right * torch.log(torch.sigmoid(student[:, 0])) + (1 - right) * torch.log(1 - torch.sigmoid(student[:, 0]))
    )
    torch.testing.assert_close(chance_loss(student, right, 0.0), expected.mean())
    p, q = (torch.sigmoid(x[:, 0] / 2) for x in (teacher, student))
    divergence = p * torch.log(p / q) + (1 - p) * torch.log((1 - p) / (1 - q))
    torch.testing.assert_close(chance_divergence(teacher, student, 2.0), 4 * divergence.mean())
    scores = torch.randn(4, 4)
    wanted = -torch.log_softmax(scores / 0.1, dim=1).diagonal().mean()
    torch.testing.assert_close(contrastive_loss(scores, 0.1), wanted)
    assert float(contrastive_loss(scores[:1, :1], 0.1)) == 0.0


def test_an_utterance_is_not_told_from_itself(tmp_path):
    """Oracle: the softmax written out without the column of the text that reads alike; numbers below 0 are unknown."""
    torch.manual_seed(0)
    scores = torch.randn(4, 4, requires_grad=True)
    kept = [[0, 1, 3], [0, 1, 2, 3], [1, 2, 3], [0, 1, 2, 3]]  # 0 and 2 read alike
    own = [scores[row, row] - torch.logsumexp(scores[row, columns], 0) for row, columns in enumerate(kept)]
    found = contrastive_loss(scores, 1.0, torch.tensor([5, 6, 5, 7]))
    torch.testing.assert_close(found, -torch.stack(own).mean())
    found.backward()
    assert torch.isfinite(scores.grad).all()
    assert scores.grad[0, 2] == scores.grad[2, 0] == 0
    torch.testing.assert_close(contrastive_loss(scores, 1.0, torch.full((4,), -1)), contrastive_loss(scores, 1.0))
    assert float(contrastive_loss(scores.detach(), 1.0, torch.zeros(4, dtype=torch.long))) == 0.0
    tokenizer = make_tokenizer()
    rows = [Example(text=f"w{n}", pair=pair) for n, pair in enumerate(("light", "on", "light "))]
    assert read_examples(tokenizer, rows, 12, Reads(task="response-selection", apart=True)).known == [0, 1, 0]


def test_a_model_without_types_is_given_none(tmp_path):
    """Oracle: DistilBERT, which would refuse the input, answers as it does without."""
    torch.manual_seed(0)
    config = DistilBertConfig(vocab_size=30, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=32)
    DistilBertModel(config).save_pretrained(tmp_path)
    model = load_model(tmp_path, Head(("no", "yes"))).eval()
    ids = torch.arange(6)[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with_types = observe(model, inputs | {"token_type_ids": torch.zeros_like(ids)}, Wanted(logits=True)).logits
    torch.testing.assert_close(with_types, model(**inputs).logits)


def test_a_head_of_another_kind_is_made_anew(tmp_path):
    """Oracle: both heads are a `classifier` of as many labels; the encoder's weights stay."""
    save_teacher(tmp_path / "start")
    made = load_model(tmp_path / "start", Head(TAGS, "token-classification"))
    ours = AutoModelForSequenceClassification.from_pretrained(tmp_path / "start")
    assert not torch.equal(made.classifier.weight, ours.classifier.weight)
    assert torch.equal(made.bert.encoder.layer[0].output.dense.weight, ours.bert.encoder.layer[0].output.dense.weight)


def test_what_cannot_be_matched_is_said(tmp_path):
    """Oracle: the messages name the phase and what to do."""
    save_teacher(tmp_path / "start")
    make_data(tmp_path, "classification")
    contrastive = {"objectives": [{"kind": "contrastive"}]}
    with pytest.raises(ModelError, match="matches texts with their answers"):
        train_student(tmp_path, teach(tmp_path / "start", head="none", phase=contrastive), teacher="start")
    with pytest.raises(ValidationError, match="head is none"):
        teach(tmp_path / "start", head="none")


def test_the_tokenizer_of_a_trained_model_reads_as_before(tmp_path):
    """Oracle: the tokenizer it started with."""
    save_teacher(tmp_path / "start")
    make_data(tmp_path, "question-answering", train=40)
    train_student(tmp_path, teach(tmp_path / "start", phase={"epochs": 1}), "teacher", teacher="start")
    text = "play some music now " * 10
    found = [AutoTokenizer.from_pretrained(tmp_path / name)(text)["input_ids"] for name in ("start", "teacher")]
    assert found[0] == found[1]


def test_the_right_utterance_is_learnt_among_its_querys_candidates(tmp_path):
    """Oracle: the right one follows from a word, so it must come first; every other look at it is at whole queries."""
    save_teacher(tmp_path / "start")
    make_data(tmp_path, "response-selection")
    config = teach(tmp_path / "start", negatives=2, phase={"among_candidates": True})
    evaluations = train_student(tmp_path, config, "teacher", teacher="start")["evaluations"]
    assert max(entry["validation_accuracy"] for entry in evaluations) > 0.9
    student = ModelConfig(
        start={"kind": "layers", "layers": [1]}, teacher="teacher", max_tokens=24, negatives=2,
        phases=[{
            "name": "order", "objectives": [{"kind": "logits"}, {"kind": "labels", "weight": 0.2}], "epochs": 3,
            "learning_rate": 5e-3, "batch_size": 16, "cache_teacher": True, "among_candidates": True,
        }],
    )  # fmt: skip
    taught = train_student(tmp_path, student, "student")["evaluations"]
    assert taught[-1]["validation_loss"] < taught[0]["validation_loss"]


def test_candidates_of_a_query_stay_together():
    """Oracle: each query's own context, in every batch of an epoch; none is lost, and the right one is last."""
    reads = Reads(task="response-selection", negatives=3)
    texts = Texts(make_tokenizer(), choices(40, 1), 24, "train", reads)  # of four candidates each
    assert texts.queries == 40
    for plan in (
        Plan(batch_size=16, among_candidates=True),
        Plan(batch_size=16, batch_tokens=300, among_candidates=True),
        Plan(batch_size=16, accumulate=2, among_candidates=True),
        Plan(batch_size=16, rank=1, world=2, among_candidates=True),
    ):
        steps = itertools.islice(texts.steps(plan, FeedPosition()), texts.steps_per_epoch(plan))
        batches = [batch for parts, _ in steps for batch in parts]
        seen = [text for batch in batches for text in batch.texts]
        assert sorted(seen) == sorted(set(seen))
        assert len(seen) == 160 // plan.world
        for batch in batches:
            assert batch.counted == len(batch.candidates)
            own = torch.tensor(batch.texts)[batch.candidates] // 4
            assert (own == own[:, :1]).all()
            known = batch.labels[batch.candidates]
            assert known[:, -1].tolist() == [1.0] * len(known)
            assert not known[:, :-1].any()
    in_order = list(texts.in_order(16, among_candidates=True))
    assert sum(len(batch.candidates) for batch in in_order) == 40


def test_candidates_are_rivals_in_a_row_of_their_query():
    """Oracle: cross-entropy and divergence query by query, in a loop; a query with fewer has no more than those."""
    torch.manual_seed(0)
    theirs, ours, groups = torch.randn(5, 1), torch.randn(5, 1), [[0, 1, 2], [3, 4]]
    batch = collate_padded([torch.arange(2)] * 5, [0.0, 0.0, 1.0, 0.0, 1.0], InputForm(0))
    batch = replace(batch, candidates=torch.tensor([[0, 1, 2], [-1, 3, 4]]))
    head = Head(("relevance",), "response-selection")
    rows = judged(head, Seen(logits=theirs), Seen(logits=ours), batch)
    expected = [torch.log_softmax(ours[group, 0], 0) for group in groups]
    found = labels_loss(rows.student.logits, rows.labels, 0.0)
    assert rows.answers == "rivals"
    assert float(found) == pytest.approx(-float(expected[0][-1] + expected[1][-1]) / 2)
    divergence = sum(
        float((torch.softmax(theirs[group, 0], 0) * (torch.log_softmax(theirs[group, 0], 0) - log)).sum())
        for group, log in zip(groups, expected, strict=True)
    )
    assert float(logits_loss(rows.teacher.logits, rows.student.logits, 1.0)) == pytest.approx(divergence / 2, rel=1e-5)


def test_who_reads_no_candidates_cannot_learn_among_them(tmp_path):
    """Oracle: the message a user reads, before the first step."""
    save_teacher(tmp_path / "start")
    make_data(tmp_path, "classification")
    config = teach(tmp_path / "start", phase={"among_candidates": True})
    with pytest.raises(ModelError, match="learns among candidates, which only a cross-encoder reads"):
        train_student(tmp_path, config, "teacher", teacher="start")


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        ({"objectives": [{"kind": "hidden"}]}, "by logits and labels alone"),
        ({"objectives": [{"kind": "labels", "smoothing": 0.1}]}, "leave smoothing out"),
    ],
)
def test_a_phase_that_cannot_learn_among_candidates_is_refused(phase, message):
    """Oracle: the message a user reads."""
    with pytest.raises(ValueError, match=message):
        teach("start", phase={"among_candidates": True} | phase)
