"""What a user can get wrong, or a machine run out of: one clear error, before the first step where it can be known."""

import multiprocessing
import re
import resource

import psutil
import pytest
import torch
from tiny_models import make_tokenizer, read_weights, save_teacher, seal_dataset, train_student
from transformers import CanineTokenizer, DistilBertConfig, DistilBertForSequenceClassification

from artifact.config import parse_config
from artifact.dataset import Example
from artifact.errors import ConfigError, DataError, ModelError, TrainingError
from distill import loop, step
from distill.checkpoint import Position, read_tensors
from distill.config import CorpusConfig, ModelConfig
from pipeline.recipe import Recipe

HIDDEN = [{"kind": "hidden"}]
PHASE = {"name": "p", "objectives": HIDDEN, "epochs": 1, "learning_rate": 1e-3, "batch_size": 8}
CORPUS = PHASE | {"corpus": "text", "epochs": None, "steps": 2}


def student(*phases: dict, **fields) -> ModelConfig:
    given = {"start": {"kind": "layers", "layers": [0]}, "teacher": "teacher", "max_tokens": 16, "phases": phases}
    return ModelConfig(**(given | fields))


@pytest.fixture
def made(tmp_path):
    seal_dataset(tmp_path / "data", train=24)
    save_teacher(tmp_path / "teacher")
    return tmp_path


def rows(*texts: str) -> list[Example]:
    return [Example(text=text, label=index % 3) for index, text in enumerate(texts)]


def assert_untouched(root) -> None:
    assert not list(root.glob("student/checkpoints/*"))
    assert not (root / "student" / "model.safetensors").exists()


# Data


@pytest.mark.parametrize("split", ["train", "validation"])
def test_an_empty_split_is_named(made, split):
    """Oracle: the message."""
    seal_dataset(made / "empty", splits={split: []})
    with pytest.raises(DataError, match=f"the {split} split has no rows"):
        train_student(made, student(PHASE), data="empty")
    assert_untouched(made)


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        (rows("light", "music", "time"), rows("light")),
        (rows("light"), rows("light", "music")),
        (rows("", " ", "light"), rows("", "zzz")),
        (rows("light " * 170_000, "music", "time"), rows("jazz " * 210_000, "x" * 1_050_000)),
    ],
    ids=["one row", "one text", "no words", "a megabyte"],
)
def test_odd_texts_are_no_fault(made, train, validation):
    """Oracle: the number of steps; the texts are cut to max_tokens and the weights stay finite."""
    seal_dataset(made / "odd", splits={"train": train, "validation": validation})
    labels = [{"kind": "labels"}, {"kind": "relations"}, *HIDDEN]
    phases = [PHASE | {"objectives": labels, "batch_size": 2}, CORPUS | {"name": "corpus"}]
    text = corpus(made, train[0].text + "\n" + train[-1].text)
    facts = train_student(made, student(*phases), data="odd", corpora=text)
    assert facts["steps"] == (len(train) + 1) // 2 + 2
    assert all(torch.isfinite(tensor).all() for tensor in read_weights(made / "student").values())


def corpus(root, text: str) -> dict[str, CorpusConfig]:
    (root / "corpus.txt").write_text(text, encoding="utf-8")
    return {"text": CorpusConfig(source={"kind": "files", "directory": root, "files": ["corpus.txt"]})}


def test_a_corpus_without_text_is_one_error(made):
    """Oracle: the message, from a file of blank lines and from a file that is not there."""
    with pytest.raises(DataError, match="the corpus has no text"):
        train_student(made, student(CORPUS), corpora=corpus(made, "\n \n\n"))
    gone = {"text": CorpusConfig(source={"kind": "files", "directory": made, "files": ["gone.txt"]})}
    with pytest.raises(DataError, match=r"gone\.txt"):
        train_student(made, student(CORPUS), "again", corpora=gone)


def test_a_corpus_nobody_named_is_found_in_the_recipe():
    """Oracle: the message names the model and the corpus."""
    models = {
        "teacher": ModelConfig(start={"kind": "checkpoint", "source": "x"}).model_dump(),
        "student": student(CORPUS).model_dump(),
    }
    source = {"kind": "files", "train": "a.jsonl", "validation": "b.jsonl", "test": "c.jsonl"}
    with pytest.raises(ValueError, match=r"models\.student reads text, which corpora does not name"):
        Recipe(name="x", data={"source": source}, models=models, candidate="student/int8")


def test_text_of_another_encoding_says_how_to_convert_it(made):
    """Oracle: the message; plain Latin in UTF-16 without a mark is valid UTF-8, with NULs."""
    for encoding, word, fault, hint in (
        ("utf-16", "light", "is not UTF-8: byte 0xff at column 1", "-f UTF-16 -t"),
        ("utf-16-le", "light", "holds a NUL at column 2", "-f UTF-16 -t"),
        ("latin-1", "café", "is not UTF-8: byte 0xe9 at column 4", "-f WINDOWS-1252 -t"),
    ):
        text = corpus(made, "")
        (made / "corpus.txt").write_bytes(f"{word}\njazz\n".encode(encoding))
        with pytest.raises(DataError, match=rf"corpus\.txt, line 1 {fault}(.|\n)*{hint} UTF-8") as said:
            train_student(made, student(CORPUS), encoding, corpora=text)
        assert len(str(said.value).splitlines()) == 2


# Recipes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objectives": [{"kind": "relations", "pairs": {}}]}, r"relations\.pairs: .* at least 1 item"),
        ({"objectives": [{"kind": "relations", "pairs": {"QQ": -1}}]}, r"pairs\.QQ: .* greater than 0"),
        ({"objectives": [{"kind": "relations", "pairs": {"QX": 1}}]}, "'QQ', 'QK', 'QV', 'KQ', 'KK', 'KV'"),
        ({"unfreeze": []}, "unfreeze: .* at least 1 item"),
        ({"unfreeze_gradually": []}, "unfreeze_gradually.* at least 1 item"),
        ({"unfreeze_gradually": [["head"], []]}, "unfreeze_gradually.* at least 1 item"),
        ({"betas": [0.9, 1.0]}, r"betas\.1: .* less than 1"),
    ],
)
def test_a_phase_that_says_nothing_sensible(change, message):
    """Oracle: the message a user reads."""
    given = {"start": {"kind": "layers", "layers": [0]}, "teacher": "teacher", "phases": [PHASE | change]}
    with pytest.raises(ConfigError, match=message):
        parse_config(ModelConfig, given, where="model.yaml")


# Models


def test_a_teacher_without_a_fast_tokenizer(made):
    """Oracle: the message; CANINE reads characters and has a slow tokenizer only."""
    for file in made.glob("teacher/*token*"):
        file.unlink()
    CanineTokenizer().save_pretrained(made / "teacher")
    with pytest.raises(ModelError, match=r"teacher has no fast tokenizer\n  add a tokenizer\.json to it"):
        train_student(made, student(PHASE))
    assert_untouched(made)


def test_teacher_and_start_of_different_vocabularies(made):
    """Oracle: the message; the two share no order of pieces."""
    save_teacher(made / "other")
    tokenizer = make_tokenizer(letters=True)
    tokenizer.save_pretrained(made / "other")
    config = student(PHASE, start={"kind": "checkpoint", "source": str(made / "other")})
    with pytest.raises(ModelError, match=r"share no vocabulary: 51 of the student's 76 pieces, such as '##a'"):
        train_student(made, config, start="other")
    assert_untouched(made)


def test_texts_longer_than_the_model_has_positions(made):
    """Oracle: the message, with both numbers."""
    with pytest.raises(ModelError, match="max_tokens is 65, the teacher has positions for 64"):
        train_student(made, student(PHASE, max_tokens=65))
    assert_untouched(made)


# Batches


def test_an_architecture_that_cannot_be_packed(made):
    """Oracle: the message says which can, and what to do."""
    config = DistilBertConfig(n_layers=2, dim=16, hidden_dim=16, n_heads=2, vocab_size=25, num_labels=3)
    DistilBertForSequenceClassification(config).save_pretrained(made / "distilbert")
    make_tokenizer().save_pretrained(made / "distilbert")
    packed = PHASE | {"packing": True, "batch_tokens": 64}
    with pytest.raises(ModelError, match=r"distilbert takes no positions (.|\n)*turn phase.packing off"):
        train_student(made, student(packed), teacher="distilbert")
    assert_untouched(made)


@pytest.mark.parametrize("phase", [PHASE, CORPUS])
def test_a_budget_of_less_than_a_row_is_found_before_another_phase_has_trained(made, phase):
    """Oracle: the message names the phase and both numbers; the first phase has not begun."""
    packed = phase | {"name": "packed", "packing": True, "batch_tokens": 15}
    with pytest.raises(
        ConfigError, match=r"phase 'packed': packing needs batch_tokens for .* max_tokens, 16, found 15"
    ):
        train_student(made, student(PHASE, packed), corpora=corpus(made, "light"))
    assert_untouched(made)


# Room


class NoMemory:
    """Fails a forward pass of more than so many rows, as an allocator of torch would."""

    def __init__(self, monkeypatch, rows: int, error: Exception) -> None:
        self.rows, self.error = rows, error
        real = step.observe
        monkeypatch.setattr(step, "observe", lambda *given: (self.look(given[1]), real(*given))[1])

    def look(self, inputs) -> None:
        if len(inputs["input_ids"]) > self.rows:
            raise self.error


CPU_SAYS = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to ..."


@pytest.mark.parametrize(
    "error", [RuntimeError(CPU_SAYS), torch.OutOfMemoryError("CUDA out of memory."), MemoryError("std::bad_alloc")]
)
def test_no_memory_for_a_batch_says_what_may_fit_and_it_does(made, monkeypatch, error):
    """Oracle: the message's own advice, followed until the run ends."""
    NoMemory(monkeypatch, 3, error)
    parts: list[int | None] = [None]
    for rows_at_once in (8, 4):
        with pytest.raises(TrainingError) as said:
            train_student(made, student(PHASE | {"accumulate": parts[-1]}), f"student-{parts[-1]}")
        assert re.search(rf"no memory in phase 'p' for {rows_at_once} rows x [0-9]+ tokens on cpu", said.value.problem)
        advice = re.fullmatch(r"set its `accumulate` to ([0-9]+): the same result, .*", said.value.hint)
        parts.append(int(advice.group(1)))
    assert parts == [None, 2, 4]
    train_student(made, student(PHASE | {"accumulate": 4}), "student-4")


@pytest.mark.parametrize(
    ("phase", "hint"),
    [
        (PHASE | {"batch_size": 1}, "one row is the least there is: lower max_tokens"),
        (PHASE | {"accumulate": 3}, "set its `accumulate` to 4"),
        (PHASE | {"objectives": [{"kind": "embedding", "measure": "similarity"}]}, "lower its batch_size"),
    ],
)
def test_what_to_do_about_memory_depends_on_the_phase(made, monkeypatch, phase, hint):
    """Oracle: parts change what compares the texts of a batch, and a row cannot be parted."""
    NoMemory(monkeypatch, 0, torch.OutOfMemoryError("CUDA out of memory."))
    with pytest.raises(TrainingError, match=re.escape(hint)):
        train_student(made, student(phase))


def test_another_fault_of_torch_keeps_its_trace(made, monkeypatch):
    """Oracle: the error itself."""
    NoMemory(monkeypatch, 0, RuntimeError("expected scalar type Float"))
    with pytest.raises(RuntimeError, match="expected scalar type Float"):
        train_student(made, student(PHASE))


def in_child(work, *arguments) -> str:
    """What `work` returns, in a process of its own, whose limits end with it."""
    context = multiprocessing.get_context("spawn")
    parent, child = context.Pipe()
    process = context.Process(target=_answer, args=(child, torch.get_num_threads(), work, arguments))
    process.start()
    child.close()
    answer = parent.recv()
    process.join(60)
    assert process.exitcode == 0
    return answer


def _answer(pipe, threads, work, arguments) -> None:
    torch.set_num_threads(threads)  # the same bits need the same number
    pipe.send(work(*arguments))


def train_without_memory(root) -> str:
    """Train a batch whose feed-forward layers want 130 MB each, where 200 MB more may be had than there were."""
    seal_dataset(root / "long", splits={"train": rows(*["light " * 500] * 512)})
    save_teacher(root / "wide", positions=512)
    limit = psutil.Process().memory_info().vms + 200_000_000
    config = student(PHASE | {"batch_size": 512}, max_tokens=512)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        train_student(root, config, teacher="wide", data="long")
    except TrainingError as error:
        return str(error)
    return "it fitted"


@pytest.mark.slow
def test_the_real_allocator_is_understood(made):
    """Oracle: torch's own error on a CPU, behind a limit of the address space."""
    said = in_child(train_without_memory, made)
    assert re.match(
        r"student: no memory in phase 'p' for [0-9]+ rows x 502 tokens on cpu\n  set its `accumulate`", said
    )


def train_on_a_full_disk(root) -> str:
    """From the third checkpoint on files may be half as large only."""
    real, saves = loop.save_checkpoint, [0]

    def filling(*given, **more):
        saves[0] += 1
        if saves[0] == 4:
            size = (root / "student" / "checkpoints" / "latest.safetensors").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return real(*given, **more)

    loop.save_checkpoint = filling
    try:
        train_student(root, student(PHASE | {"epochs": 2}, checkpoint_every_steps=1))
    except TrainingError as error:
        return str(error)
    return "there was room"


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_it_goes_on_when_there_is_room(made):
    """Oracle: the undisturbed run's bits; the checkpoint that is left is the third, whole."""
    train_student(made, student(PHASE | {"epochs": 2}, checkpoint_every_steps=1), "calm")
    said = in_child(train_on_a_full_disk, made)
    assert said.startswith("cannot write the checkpoint")
    assert "the last checkpoint is intact: make room and run the same command again" in said
    folder = made / "student" / "checkpoints"
    assert {path.suffix for path in folder.iterdir()} == {".safetensors"}
    assert Position.model_validate_json(read_tensors(folder / "latest.safetensors")[1]["position"]).step == 3
    train_student(made, student(PHASE | {"epochs": 2}, checkpoint_every_steps=1))
    calm, again = (made / name / "model.safetensors" for name in ("calm", "student"))
    assert calm.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("file", ["records/log.jsonl", "config.json", "tokenizer.json", "README.md"])
def test_no_room_for_the_log_or_the_model_is_one_error_and_the_run_goes_on(made, monkeypatch, file):
    """Oracle: the undisturbed run's bits; writing to `/dev/full` fails as on a full disk."""
    config = student(PHASE | {"epochs": 2}, checkpoint_every_steps=1)
    train_student(made, config, "calm")
    real, path = loop.take_step, made / "student" / file

    def filling(*given):
        path.unlink(missing_ok=True)
        path.symlink_to("/dev/full")
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", filling)
        with pytest.raises(TrainingError) as said:
            train_student(made, config)
    assert re.fullmatch(r"no room on the disk of .*student: .*No space left on device.*", said.value.problem)
    assert said.value.hint == "the last checkpoint is intact: make room and run the same command again"
    path.unlink()
    train_student(made, config)
    calm, again = (made / name / "model.safetensors" for name in ("calm", "student"))
    assert calm.read_bytes() == again.read_bytes()


def test_another_fault_of_the_system_keeps_its_trace(made, monkeypatch):
    """Oracle: the error itself."""

    def fail(*_given):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(loop, "take_step", fail)
    with pytest.raises(PermissionError, match="Permission denied"):
        train_student(made, student(PHASE))
