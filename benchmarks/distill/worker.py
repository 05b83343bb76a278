"""One side of the comparison with bertdistiller: reads commands, answers with one line of JSON each.

    python -I worker.py theirs DIR       (by the peer's interpreter: nothing of this project is imported)
    python -m benchmarks.distill.worker ours DIR

Commands: `load NAME` takes the batch of that name, `gradient` and `step` do it once and say how long it took and what
the loss was. Waiting for a command, a worker sleeps.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RELATION_HEADS = 48

Side = tuple[Callable[[dict[str, Any]], Any], dict[str, Callable[[Any], float]]]
"""What makes a batch of its tensors, and what can be done with one; the loss comes back."""


def theirs(directory: Path) -> Side:
    """The trainer of bertdistiller, at a learning rate of 0 and with the optimizer of its own choice."""
    import torch
    from bertdistiller.distillation.minilm.args import MiniLMTrainingArguments  # type: ignore[import-not-found]
    from bertdistiller.distillation.minilm.trainer import MiniLMTrainer  # type: ignore[import-not-found]
    from transformers import AutoModel

    teacher, student = (AutoModel.from_pretrained(directory / name) for name in ("teacher", "student"))
    arguments = MiniLMTrainingArguments(
        output_dir=str(directory / "theirs"), use_cpu=True, report_to=[], learning_rate=0.0, weight_decay=0.01,
        teacher_layer=teacher.config.num_hidden_layers, student_layer=student.config.num_hidden_layers,
        student_hidden_size=student.config.hidden_size, student_attention_heads=student.config.num_attention_heads,
        num_relation_heads=RELATION_HEADS,
    )  # fmt: skip
    trainer = MiniLMTrainer(model=student, args=arguments, teacher_model=teacher)
    optimizer = trainer.create_optimizer()
    student.train()

    def gradient(batch: dict[str, Any]) -> float:
        loss = trainer.compute_loss(student, batch)
        loss.backward()
        return float(loss.detach())

    def alone(batch: dict[str, Any]) -> float:
        loss = gradient(batch)
        student.zero_grad(set_to_none=True)
        return loss

    def step(batch: dict[str, Any]) -> float:
        loss = gradient(batch)
        torch.nn.utils.clip_grad_norm_(student.parameters(), arguments.max_grad_norm)
        optimizer.step()
        student.zero_grad(set_to_none=True)
        return loss

    return dict, {"gradient": alone, "step": step}


def ours(directory: Path) -> Side:
    """The training step of this project on the same weights."""
    import torch
    from transformers import AutoModel

    from benchmarks.distill.models import bench
    from distill.batch import Batch

    teacher, student = (AutoModel.from_pretrained(directory / name) for name in ("teacher", "student"))
    made = bench(teacher, student, heads=RELATION_HEADS, dropout=student.config.hidden_dropout_prob)

    def batch(inputs: dict[str, Any]) -> Batch:
        mask = inputs["attention_mask"].bool()
        return Batch(inputs, mask, torch.full((len(mask),), -1))

    return batch, {"gradient": made.fused, "step": made.step}


def main() -> None:
    """Answer until the pipe is closed."""
    kind, directory = sys.argv[1], Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    from safetensors.torch import load_file

    prepare, actions = {"theirs": theirs, "ours": ours}[kind](directory)
    current = None
    answers.write(json.dumps({"ready": kind}) + "\n")
    for line in sys.stdin:
        action, *rest = line.split()
        if action == "load":
            current = prepare(load_file(directory / f"{rest[0]}.safetensors"))
            answers.write(json.dumps({"loaded": rest[0]}) + "\n")
            continue
        began = time.perf_counter()
        loss = actions[action](current)
        answers.write(json.dumps({"seconds": time.perf_counter() - began, "loss": loss}) + "\n")


if __name__ == "__main__":
    main()
