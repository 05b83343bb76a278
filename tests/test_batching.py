"""Which texts come together, what a model sees of them, and that a feed can begin at any step."""

import itertools

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_bert, make_examples, make_tokenizer

from artifact.errors import ConfigError, ModelError
from distill.batch import InputForm, collate_packed, collate_padded, first_position_of
from distill.batching import FeedPosition, Plan, by_texts, by_tokens, pack, seeded, split
from distill.config import Noise
from distill.text import Texts, encode

FORM = InputForm(pad_id=1)
NOISE = Noise(mask_share=0.5, exchange_share=0.4)
PACKABLE = {
    "bert": (transformers.BertModel, transformers.BertConfig),
    "electra": (transformers.ElectraModel, transformers.ElectraConfig),
    "roberta": (transformers.RobertaModel, transformers.RobertaConfig),
    "xlm-roberta": (transformers.XLMRobertaModel, transformers.XLMRobertaConfig),
    "camembert": (transformers.CamembertModel, transformers.CamembertConfig),
    "mpnet": (transformers.MPNetModel, transformers.MPNetConfig),
}
SHAPE = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 40, "initializer_range": 0.3, "pad_token_id": 1, "type_vocab_size": 2,
}  # fmt: skip
lengths_of_texts = st.lists(st.integers(1, 60), max_size=300)


def make_texts(lengths, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(5, 50, (length,), generator=generator, dtype=torch.int32) for length in lengths]


def make_model(name: str):
    torch.manual_seed(0)
    kind, config = PACKABLE[name]
    return kind(config(**SHAPE)).eval()


def run(model, batch):
    return model(**batch.inputs).last_hidden_state


def ragged_lengths(count: int = 4000) -> list[int]:
    """Like sentences: a median of 20 tokens and a long tail."""
    drawn = torch.exp(3.0 + 0.7 * torch.randn(count, generator=torch.Generator().manual_seed(3)))
    return drawn.long().clamp(3, 128).tolist()


@pytest.mark.parametrize("name", PACKABLE)
def test_a_packed_text_sees_only_itself(name):
    """Oracle: the same texts padded: hidden states at real tokens, and the weights' gradients."""
    model, texts = make_model(name), make_texts([7, 11, 3, 9, 14, 1])
    rows = [[texts[0], texts[1], texts[2]], [texts[3]], [texts[4], texts[5]]]
    padded = collate_padded(texts, [0] * 6, FORM)
    packed = collate_packed(rows, [0] * 6, FORM, first_position=first_position_of(model))
    assert packed.inputs["input_ids"].shape == (3, 21)
    assert torch.equal(packed.mask, padded.mask)
    hidden = [batch.unpack(run(model, batch)) for batch in (padded, packed)]
    torch.testing.assert_close(hidden[1][packed.mask], hidden[0][padded.mask], atol=1e-5, rtol=0)
    parameters = [p for key, p in model.named_parameters() if "pooler" not in key]
    gradients = [torch.autograd.grad(h[padded.mask].square().mean(), parameters) for h in hidden]
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-3)


def test_what_is_not_packed_is_not_touched():
    """Oracle: identity."""
    batch = collate_padded(make_texts([2, 5]), [3, 4], InputForm(pad_id=0))
    x = torch.randn(2, 5, 3)
    assert batch.unpack(x) is x
    assert batch.token_ids() is batch.inputs["input_ids"]
    assert batch.inputs["input_ids"][0, 2:].tolist() == [0, 0, 0]
    assert set(batch.inputs) == {"input_ids", "attention_mask"}
    assert batch.labels.tolist() == [3, 4]


def test_tokens_of_packed_texts_can_be_read_and_changed():
    """Oracle: the texts, one by one; padding keeps its token."""
    texts = make_texts([4, 2, 6])
    batch = collate_packed([[texts[0], texts[1]], [texts[2]]], [7, 8, 9], FORM, first_position=0)
    assert all(torch.equal(ids[m], t.long()) for ids, m, t in zip(batch.token_ids(), batch.mask, texts, strict=True))
    changed = batch.with_token_ids(batch.token_ids() + 1).to(torch.device("cpu"))
    assert torch.equal(changed.token_ids()[batch.mask], batch.token_ids()[batch.mask] + 1)
    assert changed.inputs["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1], [0, 1, 2, 3, 4, 5]]
    assert batch.labels.tolist() == [7, 8, 9]


@pytest.mark.parametrize("kind", [transformers.DistilBertConfig, transformers.AlbertConfig])
def test_an_architecture_that_cannot_be_packed_is_named(kind):
    """Oracle: the message a user reads."""
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(kind())
    with pytest.raises(ModelError, match=rf"{kind.model_type} takes no positions .*expected one of bert, .*roberta"):
        first_position_of(model)


def test_models_that_count_differently_are_not_packed_together():
    """Oracle: the message a user reads."""
    assert first_position_of(make_model("bert"), make_bert()) == 0
    with pytest.raises(ModelError, match="bert counts from 0, roberta counts from 2"):
        first_position_of(make_model("bert"), make_model("roberta"))


@settings(deadline=None, max_examples=40)
@given(lengths_of_texts, st.integers(1, 20), st.integers(0, 5))
def test_batches_by_texts(lengths, size, seed):
    """Oracle: a permutation; all batches full but one for each group; the seed's alone."""
    batches = by_texts(lengths, size, seeded(seed))
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))
    assert all(len(batch) <= size for batch in batches)
    assert len(batches) == -(-len(lengths) // size)
    assert batches == by_texts(lengths, size, seeded(seed))


@settings(deadline=None, max_examples=40)
@given(lengths_of_texts, st.integers(1, 400), st.integers(0, 5))
def test_batches_by_tokens(lengths, budget, seed):
    """Oracle: a permutation; the padded size of each batch; the seed's alone."""
    batches = by_tokens(lengths, budget, seeded(seed))
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= budget for b in batches)
    assert batches == by_tokens(lengths, budget, seeded(seed))


@settings(deadline=None, max_examples=40)
@given(lengths_of_texts, st.integers(60, 200), st.integers(1, 5), st.integers(0, 5))
def test_packed_rows(lengths, row_tokens, rows, seed):
    """Oracle: a permutation; the size of each row and batch; the seed's alone."""
    batches = pack(lengths, row_tokens, rows, seeded(seed))
    assert sorted(i for batch in batches for row in batch for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= row_tokens for batch in batches for row in batch)
    assert all(len(batch) == rows for batch in batches[:-1])
    assert batches == pack(lengths, row_tokens, rows, seeded(seed))


@given(st.lists(st.lists(st.integers()), max_size=30), st.integers(1, 8))
def test_a_batch_is_split_evenly(rows, parts):
    """Oracle: the rows in order; sizes that differ by one at most."""
    cut = split(rows, parts)
    assert list(itertools.chain(*cut)) == rows
    assert len(cut) == min(parts, len(rows))
    assert not cut or max(map(len, cut)) - min(map(len, cut)) <= 1


def test_little_is_padded_and_order_follows_the_seed():
    """Oracle: shares counted longhand on lengths like those of sentences."""
    lengths = ragged_lengths()
    batches = by_tokens(lengths, 2048, seeded(1))
    assert sum(lengths) / sum(len(b) * max(lengths[i] for i in b) for b in batches) > 0.95
    rows = [row for batch in pack(lengths, 128, 8, seeded(1)) for row in batch]
    assert sum(lengths) / (len(rows) * 128) > 0.95
    assert by_tokens(lengths, 2048, seeded(1)) != by_tokens(lengths, 2048, seeded(2))
    assert pack(lengths, 128, 8, seeded(1)) != pack(lengths, 128, 8, seeded(2))
    with pytest.raises(ValueError, match="a text of 128 tokens does not fit a row of 100"):
        pack(lengths, 100, 8, seeded(1))


def equal_steps(ours, expected) -> bool:
    return all(
        a[1] == b[1] and len(a[0]) == len(b[0]) and all(equal_batches(*pair) for pair in zip(a[0], b[0], strict=True))
        for a, b in zip(ours, expected, strict=True)
    )


def equal_batches(a, b) -> bool:
    assert a.inputs.keys() == b.inputs.keys()
    tensors = [(a.inputs[k], b.inputs[k]) for k in a.inputs] + [(a.mask, b.mask), (a.labels, b.labels)]
    if a.where is not None:
        tensors.append((a.where, b.where))
    return all(torch.equal(x, y) for x, y in tensors)


PLANS = {
    "texts": Plan(batch_size=8, accumulate=3, seed=4),
    "tokens": Plan(batch_size=8, batch_tokens=60, seed=4),
    "packed": Plan(batch_size=8, batch_tokens=60, packing=True, accumulate=2, seed=4),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_texts_go_on_from_any_step(plan):
    """Oracle: 30 steps without a stop, tensor for tensor, over more than two epochs."""
    texts = Texts(make_tokenizer(), make_examples(60, 0), 12, "train")
    straight = list(itertools.islice(texts.steps(plan, FeedPosition()), 30))
    assert straight[-1][1].epoch >= 2
    for stop in (1, 11, texts.steps_per_epoch(plan)):
        again = itertools.islice(texts.steps(plan, straight[stop - 1][1]), 30 - stop)
        assert equal_steps(list(again), straight[stop:])


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_processes_share_each_step(plan):
    """Oracle: the labels and token counts of one process's steps; parts that differ by one row at most."""
    texts = Texts(make_tokenizer(), make_examples(60, 0), 12, "train")
    alone = itertools.islice(texts.steps(plan, FeedPosition()), 12)
    plans = [Plan(**{**vars(plan), "rank": rank, "world": 3}) for rank in range(3)]
    together = zip(*(texts.steps(p, FeedPosition()) for p in plans), strict=True)
    for (parts, after), shares in zip(alone, together, strict=False):
        assert {position for _, position in shares} == {after}
        theirs = [part for share, _ in shares for part in share]
        assert sum(int(p.mask.sum()) for p in theirs) == sum(int(p.mask.sum()) for p in parts)
        assert sorted(n for p in theirs for n in p.labels.tolist()) == sorted(
            n for p in parts for n in p.labels.tolist()
        )
        rows = [sum(len(part.inputs["input_ids"]) for part in share) for share, _ in shares]
        assert max(rows) - min(rows) <= 1
        assert len(parts) <= plan.accumulate


def test_a_process_without_a_text_gets_an_empty_list():
    """Oracle: the rule, written out: one text, three processes."""
    texts = Texts(make_tokenizer(), make_examples(1, 0), 12, "train")
    plans = [Plan(batch_size=4, rank=rank, world=3) for rank in range(3)]
    assert [len(next(texts.steps(plan, FeedPosition()))[0]) for plan in plans] == [1, 0, 0]


def test_a_budget_of_less_than_a_row_is_named():
    """Oracle: the message a user reads."""
    texts = Texts(make_tokenizer(), make_examples(9, 0), 12, "train")
    with pytest.raises(ConfigError, match="at least one row of max_tokens, 12, found 11"):
        texts.steps_per_epoch(Plan(batch_size=4, batch_tokens=11, packing=True))
    with pytest.raises(ConfigError, match="batch_size is 2, fewer than the 3 processes"):
        Plan(batch_size=2, world=3).share()
    assert [Plan(batch_size=8, rank=rank, world=3).share().batch_size for rank in range(3)] == [3, 3, 2]
    assert Plan(batch_size=1, batch_tokens=100, rank=2, world=3).share() == Plan(batch_size=1, batch_tokens=33)


def test_noise_in_packed_texts_touches_only_their_words():
    """Oracle: counts; special tokens and padding as they were; about half of the texts untouched, as when padded."""
    texts = Texts(make_tokenizer(), make_examples(300, 0), 12, "train")
    (batch,), _ = next(texts.steps(Plan(batch_size=1, batch_tokens=5000, packing=True), FeedPosition()))
    torch.manual_seed(0)
    before, after = (b.inputs["input_ids"] for b in (batch, texts.noisy(batch, NOISE)))
    assert torch.equal(after[before < 5], before[before < 5])
    changed = (
        batch.with_token_ids(batch.token_ids()).token_ids() != texts.noisy(batch, NOISE).token_ids()
    ) & batch.mask
    assert 0.4 < changed.any(dim=1).float().mean() < 0.6


def test_texts_are_tokenised_as_transformers_does():
    """Oracle: the tokenizer called through transformers: truncated, and in pieces; whatever it was last set to."""
    tokenizer = make_tokenizer()
    texts = ["turn the light off please", "", "jazz", "play rock " * 30]
    expected = tokenizer(texts, truncation=True, max_length=8)["input_ids"]
    tokenizer.backend_tokenizer.enable_padding(length=128)
    tokenizer.backend_tokenizer.enable_truncation(5)
    found = list(encode(tokenizer, texts, 8))
    assert [pieces[0].tolist() for pieces in found] == expected
    pieces = tokenizer(texts, truncation=True, max_length=8, return_overflowing_tokens=True)["input_ids"]
    assert [piece.tolist() for of_text in found for piece in of_text] == pieces


def test_a_giant_text_loses_nothing(monkeypatch):
    """Oracle: its words, counted; chunks far smaller than the text, and a call that holds few of them."""
    monkeypatch.setattr("distill.encoding.CHUNK_CHARACTERS", 50)
    monkeypatch.setattr("distill.encoding.CHUNKS_PER_CALL", 3)
    words = ["light", "kitchen", "please"] * 300
    giant, small, unbroken = encode(make_tokenizer(), [" ".join(words), "jazz", "x" * 500], 16)
    ids = [i for piece in giant for i in piece.tolist()[1:-1]]
    assert make_tokenizer().convert_ids_to_tokens(ids) == words
    assert all(len(piece) <= 16 for piece in giant)
    assert [piece.tolist() for piece in small] == [make_tokenizer()("jazz")["input_ids"]]
    assert len(unbroken) == 1


def test_a_tokenizer_that_cannot_pad_is_refused():
    """Oracle: the message a user reads."""
    tokenizer = make_tokenizer()
    tokenizer.pad_token = None
    with pytest.raises(ModelError, match="the tokenizer has no padding token"):
        Texts(tokenizer, make_examples(1, 0), 12, "train")
