"""What the other route gives: students distilled for one task, with that task's own text and teacher."""

import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.precisions.page import faster, kept, throughput
from pipeline.results import Interval

SAMPLES = Path("benchmarks/precisions/results")


def one_task_table(samples: Path = SAMPLES) -> Iterator[str]:
    """Rows of `benchmarks.precisions`, against the teacher: quality to its float32, speed in the same precision."""
    yield "## Distilled for one task\n"
    yield (
        "The recipes `sst2` and `clinc150` distil for their task alone: relations on the task's own text, then the "
        "fine-tuned teacher's logits. The student has the same shape as those above, so its speed is theirs too. From "
        "the samples of [precisions](precisions.md), taken on a quiet machine; *kept* is to the teacher in float32, "
        "speeds to the teacher in the same precision.\n"
    )
    yield "| data | student | accuracy kept | single texts | full batches |\n| --- | --- | ---: | ---: | ---: |"
    for file in sorted(samples.glob("*.json")):
        rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
        for precision in ("float32", "int8"):
            ours, alike = rows[f"student/{precision}"], rows[f"teacher/{precision}"]
            keeps = kept(ours, rows["teacher/float32"])
            speeds = (_times(faster(ours, alike)), _times(throughput(ours, alike)))
            share = f"{100 * keeps.value:.1f} [{100 * keeps.low:.1f}, {100 * keeps.high:.1f}] %"
            yield f"| {file.stem} | {precision} | {share} | {' | '.join(speeds)} |"


def one_task_sentence(samples: Path = SAMPLES) -> str:
    """The same of int8, in a sentence."""
    found = {}
    for file in sorted(samples.glob("*.json")):
        rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
        found[file.stem] = kept(rows["student/int8"], rows["teacher/float32"])
    each = ", ".join(f"{100 * k.value:.1f} % [{100 * k.low:.1f}, {100 * k.high:.1f}] on {n}" for n, k in found.items())
    return f"Distilled for one task alone, the same shape in int8 keeps {each}."


def _times(found: Interval) -> str:
    return f"{found.value:.2f}x [{found.low:.2f}, {found.high:.2f}]"
