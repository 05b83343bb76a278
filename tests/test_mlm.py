"""The objective mlm: transformers' own loss, a head that comes and goes, and evaluation on words that stay hidden."""

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tiny_models import (
    LABELS,
    make_bert,
    make_examples,
    make_tokenizer,
    read_log,
    read_weights,
    save_teacher,
    seal_dataset,
    train_student,
)
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
)

from artifact.dataset import Example
from artifact.errors import ModelError
from artifact.manifest import read_manifest
from distill.batch import InputForm, collate_padded
from distill.batching import FeedPosition
from distill.build import build_run
from distill.config import CorpusConfig, ModelConfig
from distill.evaluation import word_floor
from distill.held_out import held_out_texts, is_held_out
from distill.step import losses_of
from distill.stream import Stream
from distill.student import load_classifier
from distill.word_head import HEADS
from pipeline.__main__ import main

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.:DeprecationWarning")  # DeBERTa's and ModernBERT's own

WORDS = [{"kind": "mlm", "mask_share": 0.3}]
PHASE = {"name": "words", "objectives": WORDS, "epochs": 2, "learning_rate": 5e-3, "batch_size": 8, "dropout": 0.0}
TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SHAPES = {
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "electra": TINY | {"embedding_size": 8},
    "albert": TINY | {"embedding_size": 8},
    "modernbert": TINY | {"global_attn_every_n_layers": 2, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2,
                          "eos_token_id": 3},
}  # fmt: skip


def model(*phases: dict, source="start", **fields) -> ModelConfig:
    given = {"start": {"kind": "checkpoint", "source": str(source)}, "max_tokens": 16, "phases": phases}
    return ModelConfig(**(given | fields))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set and a classifier without a head for words."""
    root = tmp_path_factory.mktemp("mlm")
    seal_dataset(root / "data", train=24, splits={"validation": make_examples(9, 2)})
    save_teacher(root / "teacher")
    return root


def link(made, tmp_path):
    for shared in made.iterdir():
        (tmp_path / shared.name).symlink_to(shared)
    return tmp_path


def save_masked_model(directory, kind="bert"):
    torch.manual_seed(1)
    tokenizer = make_tokenizer()
    shape = SHAPES.get(kind, TINY)
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), pad_token_id=0, max_position_embeddings=40, **shape)
    full = AutoModelForMaskedLM.from_config(config).eval()
    with torch.no_grad():  # biases and gains that are 0 and 1 would hide that they were not loaded
        for parameter in full.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    full.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return full


def run_of(config, made, start, tmp_path):
    return build_run(config, data=made / "data", start=start, teacher=None, corpora={}, out=tmp_path).run


def first_batches(run, count=2):
    phase = run.phases[0]
    steps = itertools.islice(run.texts.steps(run.plan_of(phase), FeedPosition()), count)
    return [run.hide_words(phase, parts, step) for step, (parts, _) in enumerate(steps)]


# The loss


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_the_loss_is_transformers_own(made, tmp_path, kind):
    """Oracle: the loss of `AutoModelForMaskedLM` for the same inputs and labels, with the head of its checkpoint."""
    full = save_masked_model(tmp_path / "start", kind)
    built = build_run(
        model(PHASE), data=made / "data", start=tmp_path / "start", teacher=None, corpora={}, out=tmp_path
    )
    assert built.facts["word_head"] == "checkpoint"
    run = built.run
    run.student.eval()
    for (batch,) in first_batches(run):
        losses, rows = losses_of(run, run.phases[0].objectives, batch)
        labels = torch.where(batch.targets >= 0, batch.targets, -100)
        expected = full(batch.inputs["input_ids"], attention_mask=batch.inputs["attention_mask"], labels=labels)
        torch.testing.assert_close(losses["mlm"], expected.loss, atol=1e-5, rtol=1e-5)
        hidden = batch.targets >= 0
        torch.testing.assert_close(rows.student.logits, expected.logits[hidden], atol=1e-5, rtol=1e-5)
    assert built.facts["parameters"]["total"] >= sum(p.numel() for p in full.parameters())


def test_scores_are_computed_in_the_hidden_places_only(made, tmp_path):
    """Oracle: what the decoder is given: one row a target."""
    run = run_of(model(PHASE), made, made / "teacher", tmp_path)
    rows = []
    run.student.cls.predictions.decoder.register_forward_pre_hook(lambda _m, given: rows.append(len(given[0])))
    ((batch,),) = first_batches(run, 1)
    losses_of(run, run.phases[0].objectives, batch)
    assert rows == [batch.counted]
    assert 0 < batch.counted < int(batch.mask.sum())


def test_packed_texts_have_the_loss_and_gradients_of_padded_ones(made, tmp_path):
    """Oracle: the same texts padded, masked by the same step."""
    config = model(PHASE | {"batch_tokens": 64, "packing": True})
    run = run_of(config, made, made / "teacher", tmp_path)
    phase = run.phases[0]
    run.student.eval()
    (packed,), _ = next(run.texts.steps(run.plan_of(phase), FeedPosition()))
    texts = [ids[mask] for ids, mask in zip(packed.token_ids(), packed.mask, strict=True)]
    padded = collate_padded(texts, packed.labels.tolist(), InputForm(0))
    assert len(packed.inputs["input_ids"]) < len(texts)
    seen = []
    for batch in (packed, padded):
        run.student.zero_grad()
        (hidden,) = run.hide_words(phase, [batch], 5)
        losses, _ = losses_of(run, phase.objectives, hidden)
        losses["mlm"].backward()
        seen.append((losses, {n: p.grad.clone() for n, p in run.student.named_parameters() if p.grad is not None}))
    torch.testing.assert_close(seen[0], seen[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [{}, {"batch_tokens": 70}], ids=["texts", "tokens"])
def test_parts_of_a_step_add_up(made, tmp_path, size):
    """Oracle: the same steps in one part; the mean of the parts' means is another number, as they hide unlike many."""
    root = link(made, tmp_path)
    for name, more in (("whole", {}), ("parts", {"accumulate": 3})):
        train_student(root, model(PHASE | size | more | {"epochs": 1}, keep_best=False, checkpoint_every_steps=1), name)
    whole, parts = ([line["losses"]["mlm"] for line in read_log(root / name) if "losses" in line]
                    for name in ("whole", "parts"))  # fmt: skip
    assert len(whole) >= 3
    assert whole == pytest.approx(parts, abs=1e-5)


def test_half_precision_learns_the_same(made, tmp_path):
    """Oracle: the run in float32, loss by loss, within what bf16's eight bits round."""
    root, seen = link(made, tmp_path), []
    for precision in ("float32", "bf16"):
        facts = train_student(root, model(PHASE, precision=precision), precision)
        seen.append([entry["validation_loss"] for entry in facts["evaluations"]])
    assert seen[1] == pytest.approx(seen[0], abs=0.03)
    assert read_weights(root / "bf16")["bert.embeddings.word_embeddings.weight"].dtype == torch.float32


# What it ends as


def test_a_masked_model_opens_as_transformers_own(made, tmp_path):
    """Oracle: the validation loss of the facts, from `AutoModelForMaskedLM` alone; and `AutoModel`'s states are its."""
    root = link(made, tmp_path)
    facts = train_student(root, model(PHASE | {"epochs": 6}), "encoder")
    assert facts["word_head"] == "new"
    full, notes = AutoModelForMaskedLM.from_pretrained(root / "encoder", output_loading_info=True)
    assert not notes["missing_keys"]
    assert full.config.architectures == ["BertForMaskedLM"]
    assert full.cls.predictions.decoder.weight is full.get_input_embeddings().weight
    assert json.loads((root / "encoder" / "understudy.json").read_text())["task"] == "masked language"
    run = run_of(model(PHASE), made, root / "encoder", tmp_path / "again")
    loss, correct, count = 0.0, 0, 0
    for row in make_examples(9, 2):
        ids = torch.tensor(AutoTokenizer.from_pretrained(root / "encoder")(row.text)["input_ids"])
        (batch,) = run.hide_words(run.phases[0], [collate_padded([ids], [0], InputForm(0))], None)
        labels = torch.where(batch.targets >= 0, batch.targets, -100)
        scores = full.eval()(batch.inputs["input_ids"]).logits.detach()
        loss += float(torch.nn.functional.cross_entropy(scores[0], labels[0], reduction="sum"))
        correct += int((scores.argmax(-1) == labels).sum())
        count += batch.counted
    best = min(facts["evaluations"], key=lambda e: e["validation_loss"])
    assert best["validation_loss"] == pytest.approx(loss / count, abs=2e-5)
    assert best["perplexity"] == pytest.approx(math.exp(loss / count), abs=1e-3)
    assert best["masked_accuracy"] == pytest.approx(correct / count, abs=1e-5)
    assert facts["word_floors"]["words"]["masked_tokens"] == count
    assert best["validation_loss"] < facts["evaluations"][0]["validation_loss"]
    encoder = AutoModel.from_pretrained(root / "encoder").eval()
    ids = torch.tensor([[2, 5, 6, 3]])
    torch.testing.assert_close(encoder(ids).last_hidden_state, full.bert(ids).last_hidden_state)


def keys_of(directory) -> set[str]:
    with safe_open(directory / "model.safetensors", framework="pt") as file:
        return set(file.keys())


def test_who_starts_from_it_drops_the_head(made, tmp_path):
    """Oracle: the names in the file are a classifier's own; the encoder's weights are those it started from."""
    root = link(made, tmp_path)
    train_student(root, model(PHASE), "encoder")
    labels = PHASE | {"name": "labels", "objectives": [{"kind": "labels"}], "learning_rate": 1e-12}
    train_student(root, model(labels, source=root / "encoder"), "classifier", start="encoder")
    own = set(make_bert().state_dict())
    assert keys_of(root / "classifier") == own
    assert "cls.predictions.bias" in keys_of(root / "encoder")
    torch.testing.assert_close(
        load_classifier(root / "classifier", LABELS).bert.encoder.state_dict(),
        AutoModelForMaskedLM.from_pretrained(root / "encoder").bert.encoder.state_dict(),
    )
    facts = train_student(root, model(PHASE, labels), "both")
    assert keys_of(root / "both") == own
    assert facts["parameters"]["total"] == sum(p.numel() for p in make_bert().parameters())
    assert "validation_accuracy" in facts["evaluations"][-1]


def test_a_head_goes_on_from_its_checkpoint(made, tmp_path):
    """Oracle: the loss at step 0 of the second model is that of the first one's end."""
    root = link(made, tmp_path)
    first = train_student(root, model(PHASE | {"epochs": 4}), "first")
    second = train_student(root, model(PHASE | {"epochs": 0.1, "learning_rate": 1e-12}), "second", start="first")
    best = min(e["validation_loss"] for e in first["evaluations"])
    assert second["word_head"] == "checkpoint"
    assert second["evaluations"][0]["validation_loss"] == pytest.approx(best, abs=2e-5)


# What it is evaluated on


def test_floors_are_those_of_the_targets_frequencies(made, tmp_path):
    """Oracle: the most frequent target and the entropy, counted by hand."""
    run = run_of(model(PHASE), made, made / "teacher", tmp_path)
    phase, targets = run.phases[0], []
    for row in make_examples(9, 2):
        ids = torch.tensor(make_tokenizer()(row.text)["input_ids"])
        (batch,) = run.hide_words(phase, [collate_padded([ids], [0], InputForm(0))], None)
        targets += batch.targets[batch.targets >= 0].tolist()
    shares = [targets.count(piece) / len(targets) for piece in set(targets)]
    floor = word_floor(run, phase)
    assert floor["masked_tokens"] == len(targets)
    assert floor["unigram_accuracy"] == pytest.approx(max(shares), abs=1e-5)
    assert floor["unigram_perplexity"] == pytest.approx(math.exp(-sum(s * math.log(s) for s in shares)), abs=1e-4)


def corpus_of(root, lines: list[str]) -> CorpusConfig:
    root.mkdir(parents=True, exist_ok=True)
    (root / "corpus.txt").write_text("\n".join(lines), encoding="utf-8")
    return CorpusConfig(source={"kind": "files", "directory": root, "files": ["corpus.txt"]})


def test_a_corpus_keeps_texts_for_evaluation(made, tmp_path):
    """Oracle: CRC-32 of each line: the stream reads all others, and evaluation those; places of a resume count all."""
    lines = [f"light {' '.join(row.text.split() * 2)} {n}" for n, row in enumerate(make_examples(400, 3))]
    held = [line for line in lines if is_held_out(line)]
    assert 0 < len(held) < 20
    corpus = corpus_of(tmp_path, lines)
    assert held_out_texts(corpus) == held
    phase = PHASE | {"corpus": "text", "epochs": None, "steps": 3}
    run = build_run(
        model(phase), data=made / "data", start=made / "teacher", teacher=None, corpora={"text": corpus}, out=tmp_path
    ).run
    assert len(run.validation_of(run.phases[0])) == len(held)
    plan = run.plan_of(run.phases[0])
    stream = Stream(make_tokenizer(), corpus, 64, holds_out=True)
    seen = 0
    for (batch,), position in stream.steps(plan, FeedPosition()):
        if position.epoch:
            break
        seen += len(batch.labels)
    assert seen == len(lines) - len(held)


def test_a_corpus_too_small_to_hold_out_is_evaluated_on_the_data_set(made, tmp_path):
    """Oracle: the validation split's size."""
    lines = [line for line in ("light on", "music off", "stop it now") if not is_held_out(line)]
    phase = PHASE | {"corpus": "text", "epochs": None, "steps": 2}
    corpora = {"text": corpus_of(tmp_path, lines)}
    facts = train_student(link(made, tmp_path), model(phase), corpora=corpora)
    assert facts["word_floors"]["words"]["texts"] == 9
    assert facts["steps"] == 2


# What is refused


@pytest.mark.parametrize(
    "more",
    [{"objectives": [*WORDS, {"kind": "labels"}]}, {"noise": {}}, {"cache_teacher": True}],
    ids=["another objective", "noise", "a cache"],
)
def test_what_does_not_go_with_masked_words_is_refused(more):
    """Oracle: the message."""
    with pytest.raises(ValueError, match=r"phase 'words' masks words: that goes with no other objective, no noise"):
        model(PHASE | more)


def test_a_tokenizer_without_a_mask_is_refused(made, tmp_path):
    """Oracle: the message, before the first step."""
    save_teacher(tmp_path / "start")
    settings = json.loads((tmp_path / "start" / "tokenizer_config.json").read_text())
    settings.pop("mask_token")
    (tmp_path / "start" / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "start" / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(ModelError, match="masks words, but the tokenizer has no mask token"):
        run_of(model(PHASE), made, tmp_path / "start", tmp_path)


def test_a_pruned_vocabulary_is_refused(tmp_path):
    """Oracle: the message: the text is read in pieces that the model lacks."""
    rows = [Example(text="light on", label=0), Example(text="music off", label=1), Example(text="time now", label=2)]
    seal_dataset(tmp_path / "data", splits={"train": rows * 4})
    save_teacher(tmp_path / "start", letters=True)
    with pytest.raises(ModelError, match=r"phase 'words' masks the pieces of a vocabulary of which the model has only"):
        run_of(model(PHASE, vocabulary={}), tmp_path, tmp_path / "start", tmp_path)


def test_only_the_head_may_learn(made, tmp_path):
    """Oracle: the encoder's weights, which stay, and the token table with them, which is the embeddings' own."""
    root = link(made, tmp_path)
    train_student(root, model(PHASE | {"unfreeze": ["head"]}), "head")
    before = load_classifier(made / "teacher", LABELS).bert.state_dict()
    after = AutoModelForMaskedLM.from_pretrained(root / "head").bert.state_dict()
    for name, tensor in after.items():
        torch.testing.assert_close(tensor, before[name], msg=name)


# The recipe


@pytest.mark.slow
@pytest.mark.long
def test_an_encoder_is_made_from_nothing(tmp_path):
    """Oracle: the floors that a model without context cannot pass; then intents, told apart far above chance."""
    recipe, out = Path(__file__).parent.parent / "recipes" / "pretrain.yaml", tmp_path / "out"
    shorter = ["models.encoder.phases.0.epochs=10", "models.teacher.phases.0.epochs=6"]
    assert main(["distill", str(recipe), *shorter, "--out", str(out)]) == 0
    made = read_manifest(out / "models" / "encoder")
    assert made.lineage["vocabulary"].digest == read_manifest(out / "vocabularies" / "intents").digest
    seen, floor = made.facts["evaluations"], made.facts["word_floors"]["words"]
    assert floor["texts"] == 400
    assert floor["masked_tokens"] > 500
    assert [e["validation_loss"] for e in seen] == sorted((e["validation_loss"] for e in seen), reverse=True)
    assert seen[-1]["masked_accuracy"] > 1.5 * floor["unigram_accuracy"]
    assert seen[-1]["perplexity"] < floor["unigram_perplexity"]
    teacher = read_manifest(out / "models" / "teacher")
    assert teacher.lineage["start"].digest == made.digest
    assert max(e["validation_accuracy"] for e in teacher.facts["evaluations"]) > 0.5  # of 30 intents
