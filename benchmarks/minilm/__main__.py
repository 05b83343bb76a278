"""MiniLM's table: general students of each objective, fine-tuned on each task and measured as they are deployed.

    understudy distill recipes/minilm/general.yaml data.source.directory=DIR/wikipedia_en_part \
        corpora.wikipedia.source.directory=DIR/wikipedia_en_part corpora.books.source.directory=DIR/gutenberg_part
    python -m benchmarks.minilm DIR --rows teacher none minilmv2 --tasks sst2 cola --seeds 1

DIR holds the data sets of `recipes/minilm`, each in the folder that its recipe names. A cell is a row, a task and a
seed; what is done is not done again, so the command can be stopped and given again with more. `--plan` says what is
missing. Models and bundles go to `out/minilm-table`, what they answered to `benchmarks/minilm/results`, which outlives
them, and the page to `docs/results/minilm.md`.
"""

import argparse
import os
from pathlib import Path

from artifact.progress import say
from benchmarks.minilm.cells import plan, score, train
from benchmarks.minilm.grid import BY_TASK, COSINES, GENERAL, MORE_ROWS, ROWS, TASKS, Cell, cell_recipe

OUT = Path("out/minilm-table")
RESULTS = Path("benchmarks/minilm/results")


def main() -> None:
    """Make what is missing of the cells that are asked for, then write the page from all there is."""
    options = _options()
    cells = [
        Cell(row=row, task=task, seed=seed)
        for seed in range(1, options.seeds + 1)
        for task in options.tasks
        for row in options.rows
        if task != COSINES or (seed == 1 and row not in BY_TASK)  # nothing is drawn, and nothing is learnt
    ]
    if options.plan:
        say("\n".join(plan(cells, options.results)))
        return
    options.results.mkdir(parents=True, exist_ok=True)
    for cell in cells:
        file = options.results / f"{cell.name}.json"
        if file.exists():
            continue
        if cell.task == COSINES:
            from benchmarks.minilm.cosines import score_cosines

            score_cosines(cell, options.data, options.general, options.out, file)
            continue
        recipe = cell_recipe(cell, options.data, general=options.general, budget=options.budget)
        train(cell, recipe, cell.root(options.out))
        if not options.train_only:
            score(cell, recipe, cell.root(options.out), file)
    if not options.train_only:
        from benchmarks.minilm.page import write_page

        write_page(options.results, options.budget, options.general)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DIR", help="folder that holds the data sets")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list({**ROWS, **MORE_ROWS}))
    parser.add_argument("--tasks", nargs="*", default=[COSINES, *TASKS], choices=[COSINES, *TASKS])
    parser.add_argument("--seeds", type=int, default=3, help="so many, from 1 (default: %(default)s)")
    parser.add_argument("--budget", choices=["short", "whole"], default="short", help="whole: as the recipes have it")
    parser.add_argument("--general", type=Path, default=GENERAL, help="the general students (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="models and bundles (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="cells that are done (default: %(default)s)")
    parser.add_argument("--plan", action="store_true", help="say what is missing, and do nothing")
    parser.add_argument("--train-only", action="store_true", help="train and export, and score another time")
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    main()
