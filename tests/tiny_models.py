"""Tiny random models and data sets: real code paths, seconds of work."""

import json
from pathlib import Path
from string import ascii_lowercase

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from artifact.dataset import Example, Task, write_dataset
from artifact.manifest import Request, seal

WORDS = tuple("turn on the light off kitchen bedroom play some music jazz rock stop it now please what time is".split())  # noqa: SIM905
LABELS = ("light", "music", "time")


def make_tokenizer(*, letters: bool = False) -> PreTrainedTokenizerFast:
    """With `letters`, one whose words can be left out: it can still spell them."""
    spelling = [*ascii_lowercase, *(f"##{letter}" for letter in ascii_lowercase if letter != "s")] if letters else []
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##s", *spelling]
    backend = Tokenizer(models.WordPiece({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_input_names=["input_ids", "token_type_ids", "attention_mask"], model_max_length=64,
    )  # fmt: skip


def make_bert(
    *,
    layers: int = 2,
    hidden: int = 32,
    heads: int = 4,
    labels=LABELS,
    seed: int = 0,
    pieces: int = len(WORDS) + 6,
    positions: int = 64,
):
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=pieces, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * hidden, max_position_embeddings=positions, initializer_range=0.2,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)}, num_labels=len(labels),
    )  # fmt: skip
    return BertForSequenceClassification(config).eval()


def save_teacher(directory: Path, *, letters: bool = False, **shape) -> Path:
    tokenizer = make_tokenizer(letters=letters)
    make_bert(pieces=len(tokenizer), **shape).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def make_examples(count: int, seed: int) -> list[Example]:
    """Texts whose label follows from a word in them, so that a tiny model can learn it."""
    generator = torch.Generator().manual_seed(seed)
    key = {"light": 0, "music": 1, "time": 2}
    rows = []
    for _ in range(count):
        word = list(key)[int(torch.randint(3, (1,), generator=generator))]
        length = int(torch.randint(1, 9, (1,), generator=generator))
        noise = [WORDS[int(torch.randint(len(WORDS), (1,), generator=generator))] for _ in range(length)]
        noise = [w for w in noise if w not in key] + [word]
        rows.append(Example(text=" ".join(noise), label=key[word]))
    return rows


def seal_dataset(
    directory: Path,
    train: int = 160,
    *,
    labels=LABELS,
    splits: dict[str, list[Example]] | None = None,
    task: Task = "classification",
) -> Path:
    """`splits` replace what is made up."""
    directory.mkdir(parents=True)
    made = {"train": make_examples(train, 1), "validation": make_examples(24, 2), "test": make_examples(24, 3)}
    info = write_dataset(directory, labels, made | (splits or {}), task=task)
    request = Request(stage="data", version=1, config={}, inputs={})
    seal(directory, kind="dataset", request=request, lineage={}, facts={"examples": info.examples})
    return directory


def train_student(
    root: Path, config, out: str = "student", *, teacher="teacher", start=None, data="data", corpora=None
):
    """What a distill stage does inside its directory: the model trained from what lies in `root`, and its facts."""
    from distill.run import run_distill

    (root / out).mkdir(exist_ok=True)
    taught_by = root / teacher if config.teacher is not None else None
    return run_distill(
        out, config, data=root / data, start=root / (start or teacher), teacher=taught_by, corpora=corpora or {},
        out=root / out,
    )  # fmt: skip


def read_log(model: Path) -> list[dict]:
    """The lines of a run's log, without what a clock says."""
    lines = [json.loads(line) for line in (model / "records" / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("time", "tokens_per_s")} for line in lines]


def read_weights(model: Path) -> dict[str, torch.Tensor]:
    return load_file(model / "model.safetensors")
