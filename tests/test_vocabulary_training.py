"""Vocabularies learnt from text: the same bytes every time, no letter lost, balance, coverage, and the sealed step."""

import functools
import json
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from tiny_models import seal_dataset
from transformers import AutoTokenizer, BertTokenizer, BertTokenizerFast

from artifact.dataset import Example
from artifact.errors import DataError
from artifact.stage import run_stage
from distill.config import CorpusConfig, ModelConfig
from distill.config_vocabularies import TrainedVocabulary
from distill.heads import Head
from distill.held_out import is_held_out
from distill.student import build_start
from distill.vocabulary_run import vocabulary_stage
from distill.vocabulary_training import alphabet_of, balanced, train_vocabulary

ARABIC = [
    "قَالَ المُعَلِّمُ إنَّ الكِتَابَ جَدِيدٌ",
    "ذهب الولد إلى المدرسة في الصباح الباكر",
    "أُحِبُّ القِرَاءَةَ وَالكِتَابَةَ كُلَّ يَوْمٍ",
    "هذه مدرسة كبيرة، وفيها كتب كثيرة",
]
ENGLISH = ["The teacher said that the book is new", "The boy went to the naïve school café in Zürich", "I love reading"]
CHINESE = ["我爱读书", "老师说这本书是新的"]


def config(**fields) -> TrainedVocabulary:
    return TrainedVocabulary(**({"size": 400, "min_count": 1, "character_coverage": 1.0} | fields))


def train(texts: dict[str, list[str]], **fields):
    return train_vocabulary(config(**fields), {name: functools.partial(iter, some) for name, some in texts.items()})


ALL = {"arabic": ARABIC * 3, "english": ENGLISH * 3, "chinese": CHINESE * 3}


def saved(tokenizer, directory: Path) -> dict[str, bytes]:
    tokenizer.save_pretrained(directory)
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_the_same_text_gives_the_same_bytes(tmp_path, kind):
    """Oracle: itself, ten times over; the library's hash tables are seeded anew each time."""
    first = saved(train(ALL, kind=kind)[0], tmp_path / "first")
    for number in range(9):
        assert saved(train(ALL, kind=kind)[0], tmp_path / str(number)) == first


@pytest.mark.slow
def test_another_process_gives_the_same_bytes(tmp_path):
    """Oracle: three processes of their own, with as many hash seeds and numbers of threads."""
    code = (
        "import sys; sys.path.insert(0, 'tests'); from test_vocabulary_training import *; "
        "[saved(train(ALL, kind=kind)[0], Path(sys.argv[1]) / kind) for kind in ('wordpiece', 'bpe')]"
    )
    for number in "123":
        environment = {"PYTHONHASHSEED": number, "RAYON_NUM_THREADS": number, "PATH": "", "HF_HUB_OFFLINE": "1"}
        root = Path(__file__).parent.parent
        subprocess.run([sys.executable, "-c", code, str(tmp_path / number)], check=True, cwd=root, env=environment)
    for kind in ("wordpiece", "bpe"):
        one, *others = ({p.name: p.read_bytes() for p in (tmp_path / n / kind).iterdir()} for n in "123")
        assert all(other == one for other in others)


def test_no_letter_of_arabic_is_lost():
    """Oracle: the text itself, composed: pieces joined are its words, marks and all; nothing is unknown."""
    tokenizer, _ = train(ALL)
    for text in (*ARABIC, *(unicodedata.normalize("NFD", text) for text in ARABIC)):
        pieces = tokenizer.tokenize(text)
        assert "[UNK]" not in pieces
        joined = "".join(piece.removeprefix("##") for piece in pieces)
        assert joined == unicodedata.normalize("NFC", text).replace(" ", "")


def test_offsets_are_characters_of_the_text_as_given():
    """Oracle: the slices, which are the pieces; of a letter typed in two parts they end at the first."""
    tokenizer, _ = train(ALL)
    text = f"{ARABIC[0]} {unicodedata.normalize('NFD', ENGLISH[1])}"
    encoding = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    for index, (start, stop) in zip(encoding["input_ids"], encoding["offset_mapping"], strict=True):
        piece = tokenizer.convert_ids_to_tokens(index).removeprefix("##")
        mark = text[stop : stop + 1] if unicodedata.combining(text[stop : stop + 1] or " ") else ""
        assert piece in (text[start:stop], unicodedata.normalize("NFC", text[start:stop] + mark))


@pytest.mark.parametrize("lowercase", [False, True])
def test_it_reads_as_berts_own_python_does(tmp_path, lowercase):
    """Oracle: transformers' `BertTokenizer`, written in Python, with the same pieces; also of Chinese."""
    tokenizer, _ = train(ALL, lowercase=lowercase)
    tokenizer.save_pretrained(tmp_path)
    assert isinstance(AutoTokenizer.from_pretrained(tmp_path), BertTokenizerFast)
    slow = BertTokenizer(str(tmp_path / "vocab.txt"), do_lower_case=lowercase, strip_accents=False)
    for text in (*ARABIC, *ENGLISH, *CHINESE, "reads 我爱 BOOKS, (new) ones! — quoted"):
        assert AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == slow(text)["input_ids"]


def test_accents_go_only_when_asked():
    """Oracle: the letters."""
    kept, gone = (train({"english": ENGLISH * 3}, strip_accents=asked)[0] for asked in (False, True))
    assert "".join(kept.tokenize("naïve café")).replace("##", "") == "naïvecafé"
    assert "".join(gone.tokenize("naïve café")).replace("##", "") == "naivecafe"


def test_bytes_leave_nothing_unknown():
    """Oracle: the text itself, of letters that no training text holds; lower case where asked."""
    tokenizer, _ = train(ALL, kind="bpe", size=500)
    for text in (*ARABIC, "żółć 🙂 нет", "a  b"):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == text
    assert train(ALL, kind="bpe", lowercase=True)[0].tokenize("THE") == train(ALL, kind="bpe", lowercase=True)[
        0
    ].tokenize("the")


def test_frequent_words_are_pieces_and_the_size_is_kept():
    """Oracle: the text: its commonest word is one piece; the ids are 0 to size without a gap, special ones first."""
    tokenizer, facts = train(ALL, size=180)
    assert len(tokenizer) == facts["pieces"] == 180
    assert sorted(tokenizer.get_vocab().values()) == list(range(180))
    assert tokenizer.convert_ids_to_tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.all_special_ids == [1, 3, 0, 2, 4]
    large, _ = train(ALL)
    assert large.tokenize("the") == ["the"]


def test_a_vocabulary_without_room_for_its_characters_is_refused():
    """Oracle: the message, with the numbers; fewer characters make room."""
    with pytest.raises(
        DataError, match=r"of 60 pieces has no room for \d+ characters, which take \d+\n  raise its size"
    ):
        train(ALL, size=60)
    tokenizer, _ = train(ALL, size=120, character_coverage=0.8)
    assert tokenizer.tokenize("新") == ["[UNK]"]


def test_the_alphabet_is_the_most_frequent_characters():
    """Oracle: the counts by hand; of equals the first in order."""
    counts = Counter("aaaa bbb cc dd e")
    assert alphabet_of(counts, 1.0) == list("abcde")
    assert alphabet_of(counts, 0.75) == list("abc")  # 9 of 12
    assert alphabet_of(counts, 0.76) == list("abcd")


def test_shares_follow_the_exponent():
    """Oracle: arithmetic: 1 as it is, 0 equal parts, 0.5 the roots; the total stays."""
    sizes = {"large": 900, "small": 100}
    assert balanced(sizes, 1.0) == pytest.approx({"large": 1.0, "small": 1.0})
    assert balanced(sizes, 0.0) == pytest.approx({"large": 500 / 900, "small": 5.0})
    assert balanced(sizes, 0.5) == pytest.approx({"large": 0.75 * 1000 / 900, "small": 0.25 * 1000 / 100})


def test_balance_gives_a_small_corpus_more_pieces():
    """Oracle: the pieces in Arabic letters, of which balance makes more."""
    texts = {"english": [f"{text} {n} words of {'abcdefgh'[n % 8]}{n}" for n in range(60) for text in ENGLISH],
             "arabic": ARABIC}  # fmt: skip

    def arabic(balance):
        tokenizer, facts = train(texts, balance=balance, size=300, min_count=2)
        return sum(any("\u0600" < letter < "\u06ff" for letter in piece) for piece in tokenizer.get_vocab()), facts

    (few, facts), (more, even) = arabic(1.0), arabic(0.0)
    assert more > few + 10
    assert facts["corpora"]["arabic"]["share"] < 0.1
    assert even["corpora"]["arabic"]["share"] == pytest.approx(0.5)


# The step


def seal_corpus(root: Path, lines: list[str]) -> dict[str, CorpusConfig]:
    root.mkdir(parents=True, exist_ok=True)
    (root / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    return {"text": CorpusConfig(source={"kind": "files", "directory": root, "files": ["text.txt"]})}


def make(tmp_path, corpora, name="v", **fields):
    given = {"size": 120, "corpora": list(corpora)} | fields
    stage, work = vocabulary_stage(
        "v", TrainedVocabulary(**given), data=tmp_path / "data", out=tmp_path / name, corpora=corpora
    )
    return run_stage(stage, work)


def test_held_out_text_is_measured_and_not_learnt(tmp_path):
    """Oracle: CRC-32 of each line; a word that stands in held-out lines alone is no piece, and is spelt."""
    lines = [f"the light is on {n}" for n in range(600)]
    secret = next(f"zyxwv zyxwv {n}" for n in range(10_000) if is_held_out(f"zyxwv zyxwv {n}"))
    corpora = seal_corpus(tmp_path / "text", [*lines, secret, "z y x w v zy yx"])
    facts = make(tmp_path, corpora).facts
    held = [line for line in [*lines, secret] if is_held_out(line)]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "v")
    assert "zyxwv" not in tokenizer.get_vocab()
    assert "light" in tokenizer.get_vocab()
    found = facts["corpora"]["text"]
    assert found["held_out_texts"] == len(held)
    assert found["texts"] == len(lines) + 2 - len(held)
    tokens = sum(len(tokenizer.tokenize(line)) for line in held)
    assert found["tokens_per_word"] == pytest.approx(tokens / sum(len(line.split()) for line in held), abs=1e-4)
    assert found["unknown_share"] == 0


def test_the_step_is_sealed_and_fresh_for_the_same_text(tmp_path):
    """Oracle: the digest, for the same text in another folder too; other text is another recipe's."""
    lines = [f"the light is on {n}" for n in range(50)]
    first = make(tmp_path, seal_corpus(tmp_path / "one", lines))
    second = make(tmp_path, seal_corpus(tmp_path / "two", lines))
    assert first == second
    assert first.kind == "vocabulary"
    other = make(tmp_path, seal_corpus(tmp_path / "three", [*lines, "and off"]), name="w")
    assert other.recipe != first.recipe


def test_without_a_corpus_the_data_set_is_learnt_from(tmp_path):
    """Oracle: a word of the training split is a piece, one of validation alone is not, and its letters are unknown."""
    splits = {
        "train": [Example(text="the light is on", label=0)] * 4,
        "validation": [Example(text="the ωμέγα", label=0)],
    }
    seal_dataset(tmp_path / "data", splits=splits)
    facts = make(tmp_path, {}, min_count=2).facts
    assert facts["corpora"]["data"]["unknown_share"] == 0.5
    assert "light" in AutoTokenizer.from_pretrained(tmp_path / "v").get_vocab()


def test_all_texts_of_a_row_are_learnt_from(tmp_path):
    """Oracle: words that stand in pairs and candidates alone."""
    learnt = [Example(text="the light", pair="is bright"), Example(text="the light", candidates=("maybe dark",))]
    seal_dataset(
        tmp_path / "data", splits={"train": learnt * 4, "validation": [Example(text="the", pair="bright dark")]}
    )
    facts = make(tmp_path, {}, min_count=2).facts
    assert facts["corpora"]["data"]["unknown_share"] == 0
    assert {"bright", "dark", "maybe"} <= AutoTokenizer.from_pretrained(tmp_path / "v").get_vocab().keys()


def test_no_text_is_one_error(tmp_path):
    """Oracle: the message."""
    with pytest.raises(DataError, match="there is no text in text to learn a vocabulary from"):
        make(tmp_path, seal_corpus(tmp_path / "text", []))


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert"])
def test_a_model_starts_from_scratch_with_it(tmp_path, architecture):
    """Oracle: the shape asked for, as many embeddings as pieces, places for the longest text, padding's own id."""
    kind = "bpe" if architecture == "roberta" else "wordpiece"
    tokenizer, _ = train(ALL, kind=kind)
    tokenizer.save_pretrained(tmp_path)
    shape = {"layers": 2, "hidden_size": 16, "heads": 2, "vocabulary": "v", "positions": 40}
    start = {"kind": "scratch", "architecture": architecture} | shape
    model = build_start(ModelConfig(start=start, phases=()), tmp_path, Head(("a", "b", "c")))
    assert model.config.model_type == architecture
    assert model.get_input_embeddings().weight.shape == (len(tokenizer), 16)
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert len(model.config.id2label) == 3
    longest = tokenizer("the " * 100, truncation=True, max_length=40, return_tensors="pt", return_token_type_ids=False)
    assert model(**longest).logits.shape == (1, 3)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == (
        "BertTokenizerFast" if kind == "wordpiece" else "PreTrainedTokenizerFast"
    ) or (settings["tokenizer_class"] == "BertTokenizer")
