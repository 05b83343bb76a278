"""Make an ONNX bundle of a model.

python -m export out/demo/models/student --out out/student-bundle --data out/demo/data target=avx2
python -m export MODEL_DIR --out BUNDLE_DIR --data texts.jsonl precisions=[float32,int8,int8-blocks]
python -m export MODEL_DIR --out BUNDLE_DIR --config export.yaml parity.int8_min_cosine=0.95
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from artifact.config import load_config
from artifact.errors import ExportError, UnderstudyError
from artifact.manifest import Manifest
from artifact.stage import run_stage
from export.config import ExportConfig


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when the bundle is there, 2 when the user has something to mend."""
    options = _parse(arguments)
    try:
        manifest = _export(options)
    except UnderstudyError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(json.dumps(manifest.facts, ensure_ascii=False) + "\n")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL_DIR", help="a model that transformers opens")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="fields of the config")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE_DIR", help="where the bundle goes")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="texts to calibrate and judge with: a sealed data set, lines, JSON lines",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML with the fields of ExportConfig")
    parser.add_argument("--force", action="store_true", help="replace a bundle made from another recipe")
    return parser.parse_intermixed_args(arguments)


def _export(options: argparse.Namespace) -> Manifest:
    from export.run import export_stage

    name, data = options.out.resolve().name, options.data
    if data is not None and not data.exists():
        raise ExportError(f"there is no {data}", "name a sealed data set or a file of texts with --data")
    config = load_config(ExportConfig, options.config, options.overrides)
    stage, work = export_stage(options.model, options.out, config, name, data=data)
    return run_stage(stage, work, force=options.force)


if __name__ == "__main__":
    sys.exit(main())
