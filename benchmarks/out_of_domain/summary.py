"""`docs/results/systems/ood.json`: what the page of all six systems reads of this one."""

from collections.abc import Mapping
from typing import Any

from benchmarks.out_of_domain.measure import SETTINGS
from benchmarks.out_of_domain.page import three_rows
from benchmarks.out_of_domain.raw import WORDS, Raw
from benchmarks.out_of_domain.scores import area_difference, with_intervals

COMMANDS = (
    "understudy distill recipes/ood/clinc150.yaml data.source.directory=DIR",
    "understudy export recipes/ood/clinc150.yaml data.source.directory=DIR",
    "understudy distill recipes/ood/clinc150-contrast.yaml data.source.directory=DIR",
    "understudy export recipes/ood/clinc150-contrast.yaml data.source.directory=DIR",
    "python -m benchmarks.out_of_domain clinc150 --data out/ood-clinc150/data OUTPUTS",
    "python -m benchmarks.out_of_domain --page docs/results/out-of-domain.md --summary docs/results/systems/ood.json",
)
PAPER = (
    "CLINC150, IMLM + BCAD + MDF, BERT-base: AUROC 83.7, FPR95 62.9, AUPR in 95.3, AUPR out 54.6 (a re-run by others)",
    "there: twelve layers of 768, longer fine-tuning, no mask in the means, nu and sign chosen by test texts",
    "baselines of that re-run: GPT-2 perplexity AUROC 90.7; class-conditional Mahalanobis 97.4, energy 97.6",
)


def summarize(tables: Mapping[str, Raw]) -> dict[str, Any]:
    """The system's best figure, its rows with intervals, and how it was all made."""
    rows, manifests, failures = [], {}, []
    for name, raw in tables.items():
        if WORDS in raw.rows:
            rows.append(_row(f"{name}, AUROC, {WORDS}", raw, WORDS, WORDS))
        for setting in SETTINGS:
            if not all(row in raw.rows for row in three_rows(setting)):
                failures.append(f"{name}: {setting} was not measured")
                continue
            rows += [_row(f"{name}, AUROC, {row}", raw, row, "gate") for row in three_rows(setting)]
            small, teacher = (raw.sides(row, "gate") for row in reversed(three_rows(setting)[::2]))
            value, low, high = area_difference(small, teacher)
            rows.append({
                "name": f"{name}, AUROC, {setting}: student int8 - teacher", "value": value, "low": low, "high": high
            })  # fmt: skip
            if low < -0.01:
                failures.append(f"{name}: {setting} is not shown to lose at most 1 point ({100 * value:+.1f})")
        manifests |= {f"{name}/{row}": about["digest"] for row, about in raw.rows.items() if "digest" in about}
    return {
        "system": "Unsupervised out-of-domain detection (Xu et al., ACL 2021)", "headline": _headline(rows),
        "metric": "AUROC, and its differences", "page": "out-of-domain.md", "rows": rows,
        "paper": list(PAPER), "commands": list(COMMANDS), "hours": _hours(tables), "hardware": _hardware(tables),
        "manifests": manifests, "failures": failures,
    }  # fmt: skip


def _row(title: str, raw: Raw, row: str, score: str) -> dict[str, Any]:
    sides = raw.sides(row, score)
    value, low, high = with_intervals(sides.inside, sides.outside)["auroc"]
    return {"name": title, "value": value, "low": low, "high": high}


def _headline(rows: list[dict[str, Any]]) -> str:
    """Of encoders that read no label: which detector in int8 is best, and what it lost."""
    served = [row for row in rows if row["name"].endswith("/student/int8") and "labels/" not in row["name"]]
    if not served:
        return "No detector on an encoder that read no label was measured."
    best = max(served, key=lambda row: float(row["value"]))
    start = best["name"].removesuffix("/student/int8")
    lost = next(row for row in rows if row["name"] == f"{start}: student int8 - teacher")
    return (
        f"{start}, student int8: {100 * best['value']:.1f} ({100 * best['low']:.1f}, {100 * best['high']:.1f}), "
        f"{100 * lost['value']:+.1f} points of its teacher ({100 * lost['low']:+.1f}, {100 * lost['high']:+.1f})"
    )


def _hours(tables: Mapping[str, Raw]) -> float:
    """Of training, as the manifests say."""
    trained = [facts for raw in tables.values() for facts in raw.about.get("trained", {}).values()]
    return round(sum(facts.get("training_seconds") or 0 for facts in trained) / 3600, 2)


def _hardware(tables: Mapping[str, Raw]) -> str:
    machines = [raw.about["machine"] for raw in tables.values() if "machine" in raw.about]
    return "; ".join(dict.fromkeys(f"{each['processor']}, {each['usable_cores']} cores" for each in machines))
