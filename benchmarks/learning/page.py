"""The table of `benchmarks.learning`, with paired intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

RESAMPLES = 10_000


def render(names: Mapping[str, str], correct: Mapping[str, Sequence[np.ndarray]], setting: Mapping[str, Any]) -> str:
    """Markdown: accuracy of each condition, and its difference to the one above it, with 95 % intervals."""
    reference = correct["teacher"][0].mean()
    seeds = len(next(iter(correct.values())))
    about_all = (
        f"CLINC150 with {setting['texts_per_label']} labelled texts an intent, {setting['train']:,} in all; "
        f"{setting['test']:,} in-scope test texts. Student: 3 layers of 384, 12 heads, random but for its token "
        f"embeddings (SVD of the teacher's); {setting['steps']:,} steps of {setting['batch']} texts for every row, the "
        "same start and the same noise in the texts. Relations are learnt from all 15,000 training texts without their "
        "labels, as the papers learn them from text of no task; labels and logits from the few labelled "
        f"texts. Mean over {seeds} seeds; intervals are 95 %, over seeds and test texts "
        "drawn anew together, differences paired by text and seed. The teacher, all-MiniLM-L6-v2 fine-tuned on the "
        f"labelled texts, has {reference:.1%}. Written by `python -m benchmarks.learning`.\n"
    )
    lines = [
        "# Does each objective teach what it should?\n",
        about_all,
        "| learnt from | accuracy | each seed | against MiniLMv2 + logits |",
        "|---|---|---|---|",
    ]
    for name, about in names.items():
        runs = correct[name]
        low, high = _interval(runs)
        each = ", ".join(f"{run.mean():.1%}" for run in runs)
        lines.append(f"| {about} | {np.mean([r.mean() for r in runs]):.1%} [{low:.1%}, {high:.1%}] | {each} | "
                     f"{_difference(runs, correct.get('minilmv2')) if name != 'minilmv2' else ''} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def _difference(runs: Sequence[np.ndarray], best: Sequence[np.ndarray] | None) -> str:
    if best is None:
        return ""
    paired = [run.astype(float) - other for run, other in zip(runs, best, strict=True)]
    low, high = _interval(paired)
    return f"{100 * np.mean([p.mean() for p in paired]):+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"


def _interval(runs: Sequence[np.ndarray]) -> tuple[float, float]:
    """Percentile bootstrap over seeds and texts together."""
    generator = np.random.default_rng(1)
    table = np.stack(runs).astype(np.float32)
    means = []
    for _ in range(RESAMPLES // 10):
        seeds = generator.integers(len(table), size=len(table))
        texts = generator.integers(table.shape[1], size=table.shape[1])
        means.append(table[seeds][:, texts].mean())
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
