"""What was published of NOESIS II's subtask 1, and how ours differs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One system's figures, shares of 1; None where none is known to us."""

    name: str
    source: str
    recall: dict[int, float]
    """By k."""
    mrr: float | None = None


def describe(one: Published) -> str:
    """One system's figures in a line."""
    recalls = [f"R@{k} {100 * share:.1f} %" for k, share in one.recall.items()]
    return f"{one.name}: {', '.join(recalls + ([f'MRR {one.mrr:.3f}'] if one.mrr else []))} ({one.source})"


SYSTEMS = (
    Published(
        "dual LSTM encoder (the track's baseline), validation", "the organisers' repository, subtask 1",
        {1: 0.2116, 2: 0.2903, 5: 0.4211, 10: 0.5653}, 0.3249,
    ),
    Published(
        "Gu et al. 2020, post-trained BERT, hidden test", "arXiv 2004.01940, by a leaderboard page", {1: 0.649}
    ),
)  # fmt: skip

DIFFERS = (
    (
        "The track's own 225,367 conversations are not to be had; ours are made the same way from the corpus that its "
        "own were made from, with candidates drawn anew, so its numbers are not on our candidates."
    ),
    (
        "The track's systems learnt from all of them; ours from the few that the tables name, and of each text they "
        "read 64 tokens."
    ),
    "Our teacher is a 6-layer encoder of sentences; Gu et al. went on training BERT on text of the domain first.",
    (
        "The baseline takes NONE for one more candidate; ours is a threshold from validation with an F1 of its own. "
        "Recall and MRR are of the queries that have a right candidate, as the organisers' scripts count them."
    ),
)
