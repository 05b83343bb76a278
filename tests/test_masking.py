"""Which words a step hides: shares, seeds, whole words, and that nothing but the text itself matters to them."""

import functools

import torch
from tiny_models import make_tokenizer

from distill.batch import InputForm, collate_packed, collate_padded
from distill.config_objectives import MaskedLanguage
from distill.masking import Masker, choose

SPECIAL = (0, 1, 2, 3, 4)
MASK = 4


def objective(**fields) -> MaskedLanguage:
    return MaskedLanguage(kind="mlm", **fields)


def make_texts(count: int, words: int, seed: int = 0, pieces: int = 40) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    bodies = torch.randint(5, pieces, (count, words), generator=generator)
    return [torch.tensor([2, *body.tolist(), 3]) for body in bodies]


@functools.cache
def masker() -> Masker:
    return Masker.of(make_tokenizer(letters=True))


def hide(texts, step=7, seed=1, **fields):
    return masker().hide(collate_padded(texts, [0] * len(texts), InputForm(0)), objective(**fields), seed, step)


def test_shares_are_berts():
    """Oracle: of each text the asked share, up or down by less than one; of these 80 % masked, 10 % exchanged."""
    texts = make_texts(4000, 33)
    hidden = hide(texts)
    chosen, read = hidden.targets >= 0, hidden.inputs["input_ids"]
    counts = chosen.sum(1)
    assert set(counts.tolist()) == {4, 5}  # 15 % of 33 is 4.95
    assert abs(float(counts.double().mean()) - 4.95) < 0.02
    masked, same = read[chosen] == MASK, read[chosen] == hidden.targets[chosen]
    total = int(counts.sum())
    pieces = len(masker().ordinary)
    assert abs(float(masked.double().mean()) - 0.8) < 4 * (0.8 * 0.2 / total) ** 0.5
    kept = 0.1 + 0.1 / pieces  # an exchange may draw the piece itself
    assert abs(float(same.double().mean()) - kept) < 4 * (kept * (1 - kept) / total) ** 0.5
    exchanged = read[chosen][~masked & ~same]
    assert set(exchanged.tolist()) == set(masker().ordinary.tolist())
    places = chosen[:, 1:34].double().mean(0)
    assert float((places - 0.15).abs().max()) < 4 * (0.15 * 0.85 / 4000) ** 0.5


def test_special_tokens_and_padding_are_left_alone():
    """Oracle: the ids themselves; what is not chosen reads as before, also at padding that has an id of its own."""
    texts = [*make_texts(50, 8), torch.tensor([2, 1, 1, 3]), torch.tensor([2, 3])]
    batch = collate_padded(texts, [0] * len(texts), InputForm(0))
    hidden = masker().hide(batch, objective(mask_share=0.9), 1, 1)
    chosen = hidden.targets >= 0
    assert not set(hidden.targets[chosen].tolist()) & set(SPECIAL)
    assert torch.equal(hidden.inputs["input_ids"][~chosen], batch.inputs["input_ids"][~chosen])
    assert torch.equal(hidden.targets[chosen], batch.inputs["input_ids"][chosen])
    assert not chosen[-2:].any()
    assert hidden.inputs["attention_mask"] is batch.inputs["attention_mask"]


def test_a_text_is_masked_alike_in_any_company():
    """Oracle: the same text alone, among longer ones, and packed into a row."""
    short, long = make_texts(3, 6, seed=1), make_texts(2, 20, seed=2)
    together = hide([*short, *long], mask_share=0.5)
    packed = masker().hide(
        collate_packed([[short[0], long[0]], [short[1], short[2]]], [0] * 4, InputForm(0), first_position=0),
        objective(mask_share=0.5), 1, 7,
    )  # fmt: skip
    packed_ids = packed.token_ids()
    for number, place in ((0, 0), (1, 2), (2, 3)):
        alone = hide([short[number]], mask_share=0.5)
        assert torch.equal(alone.targets[0], together.targets[number, :8])
        assert torch.equal(alone.inputs["input_ids"][0], together.inputs["input_ids"][number, :8])
        assert torch.equal(alone.targets[0], packed.targets[place, :8])
        assert torch.equal(alone.inputs["input_ids"][0], packed_ids[place, :8])


def test_masks_differ_by_seed_and_step_and_are_the_same_again():
    """Oracle: equality; and over many steps each place of one text is chosen in its share of them."""
    texts = make_texts(1, 20)
    assert torch.equal(hide(texts, step=3).targets, hide(texts, step=3).targets)
    found = torch.stack([hide(texts, step=step).targets[0] >= 0 for step in range(300)])[:, 1:21]
    assert float((found.double().mean(0) - 0.15).abs().max()) < 4 * (0.15 * 0.85 / 300) ** 0.5
    assert len({tuple(row) for row in found.tolist()}) > 200
    assert not torch.equal(hide(texts, seed=1, step=3, mask_share=0.5).targets,
                           hide(texts, seed=2, step=3, mask_share=0.5).targets)  # fmt: skip


def test_whole_words_are_hidden_whole():
    """Oracle: the tokenizer's own word numbers; all pieces of a word are chosen or none, in the asked share."""
    tokenizer = make_tokenizer(letters=True)
    sentences = [f"turn on the {'zebra ' * (n % 3)}light qwerty{'z' * (n % 5)} please music" for n in range(300)]
    encodings = tokenizer(sentences)
    texts = [torch.tensor(ids) for ids in encodings["input_ids"]]
    hidden = hide(texts, whole_words=True, mask_share=0.3)
    total, chosen = 0, 0
    for number, text in enumerate(texts):
        picked = (hidden.targets[number, : len(text)] >= 0).tolist()
        words: dict[int, set[bool]] = {}
        for word, is_picked in zip(encodings.word_ids(number), picked, strict=True):
            if word is not None:
                words.setdefault(word, set()).add(is_picked)
        assert all(len(states) == 1 for states in words.values())
        assert abs(sum(states == {True} for states in words.values()) - 0.3 * len(words)) < 1
        total, chosen = total + len(words), chosen + sum(states == {True} for states in words.values())
    assert abs(chosen / total - 0.3) < 0.02


def test_a_text_cut_inside_a_word_begins_with_a_word():
    """Oracle: the equation by hand: the first piece is a continuation, and is chosen as a word of its own."""
    tokenizer = make_tokenizer(letters=True)
    a, b = (tokenizer.convert_tokens_to_ids(piece) for piece in ("##a", "##b"))
    word = tokenizer.convert_tokens_to_ids("music")
    text = torch.tensor([2, a, b, word, 3])
    states = {
        tuple((hide([text], step=s, whole_words=True, mask_share=0.5).targets[0] >= 0).tolist()) for s in range(50)
    }
    assert states == {(False, True, True, False, False), (False, False, False, True, False)}


def test_words_of_the_lowest_draws_are_chosen():
    """Oracle: the rule by hand, for a row of three words and one of none."""
    starts = torch.tensor([[False, True, False, True, True, False], [False] * 6])
    draws = torch.tensor([[0.0, 0.7, 0.1, 0.2, 0.9, 0.0], [0.5] * 6])
    found = choose(starts, draws, torch.tensor([[0.5], [0.99]]), 0.5)  # 0.5 * 3 + 0.5 = 2 words
    assert found.tolist() == [[False, True, True, True, False, False], [False] * 6]
    assert not choose(starts, draws, torch.tensor([[0.0], [0.0]]), 0.1).any()
