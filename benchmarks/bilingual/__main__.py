"""Write the generated text of two languages that `recipes/gigabert/smoke.yaml` reads.

python -m benchmarks.bilingual [--out out/bilingual]

`english`, `arabic` and `pairs.jsonl` are unlabelled; `lexicon.tsv` has a line for each word; `en` and `ar` have
sentences with names tagged, those of the test splits in no labelled training sentence. The same bytes every time.
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.bilingual.grammar import lexicon, sentences

UNLABELLED = 2_000
SPLITS = {"train": 600, "validation": 150, "test": 300}
SEEN = slice(0, 12)
UNSEEN = slice(12, None)


def write(directory: Path) -> None:
    """Fill `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / "english.jsonl", ({"text": " ".join(s.english)} for s in sentences(UNLABELLED, 1)))
    _write(directory / "arabic.jsonl", ({"text": " ".join(s.arabic)} for s in sentences(UNLABELLED, 2)))
    pairs = sentences(UNLABELLED, 3)
    _write(directory / "pairs.jsonl", ({"en": " ".join(s.english), "ar": " ".join(s.arabic)} for s in pairs))
    lines = [f"{left}\t{right}\t10\n{right}\t{left}\t10\n" for left, right in lexicon() if left.isalpha()]
    (directory / "lexicon.tsv").write_text("".join(lines), encoding="utf-8")
    for seed, (split, count) in enumerate(SPLITS.items(), start=4):
        made = list(sentences(count, seed, names=UNSEEN if split == "test" else SEEN))
        rows = {
            "en": [{"tokens": s.english, "ner_tags": s.english_tags} for s in made],
            "ar": [{"tokens": s.arabic, "ner_tags": s.arabic_tags} for s in made],
        }
        for language, some in rows.items():
            (directory / language).mkdir(exist_ok=True)
            _write(directory / language / f"{split}.jsonl", some)


def _write(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="write generated text of two languages")
    parser.add_argument("--out", type=Path, default=Path("out/bilingual"), metavar="DIR")
    write(parser.parse_args().out)
