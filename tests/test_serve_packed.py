"""Weights laid out once: the same answers, one copy for all who open it, and no harm where it cannot be made."""

import logging
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest
from export_models import make_classifier

from artifact.stage import run_stage
from export.config import ExportConfig, Parity
from export.run import export_stage
from serve.bundle import Bundle, open_bundle
from serve.packed import CACHE, GRAPH, WEIGHTS, pack, packed
from serve.runtime import Runtime
from serve.threads import available_cores

TEXTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10 w11 w12 w13"]
THREADS = min(2, available_cores())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("packed")
    config = ExportConfig(parity=Parity(batch_sizes=(1, 3), lengths=(2, 9)), target="avx2")
    run_stage(*export_stage(make_classifier(folder / "model"), folder / "bundle", config, "tiny"))
    return open_bundle(folder / "bundle")


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_answers_are_those_of_the_bundles_own_graph(bundle, precision, cached, tmp_path, monkeypatch):
    """Oracle: the graph as it was exported, to the bit; also after the copy is gone."""
    (monkeypatch.setenv if cached else lambda *_: monkeypatch.delenv(CACHE, raising=False))(CACHE, str(tmp_path / "c"))
    plain = Runtime.open(bundle, precision, threads=1)
    shared = Runtime.open(bundle, precision, threads=THREADS, shared=True)
    shutil.rmtree(tmp_path / "c", ignore_errors=True)
    encodings = plain.tokenize(TEXTS).encodings
    expected = plain.compute(encodings, wide=True)
    for wide in (True, False):
        found = shared.compute(encodings, wide=wide)
        for name, arrays in expected.items():
            np.testing.assert_array_equal(np.stack(found[name]), np.stack(arrays))


def test_the_copy_is_made_once(bundle, tmp_path):
    """Oracle: the file's inode and time. Four processes at once, then one more, find what one of them has made."""
    folder = tmp_path / "cache" / "key"
    _, graph = bundle.graph("float32")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.starmap(pack, [(graph, folder)] * 4)
    assert set(found) == {folder / GRAPH}
    first = (folder / WEIGHTS).stat()
    pack(graph, folder)
    assert ((folder / WEIGHTS).stat().st_ino, (folder / WEIGHTS).stat().st_mtime_ns) == (
        first.st_ino,
        first.st_mtime_ns,
    )
    assert sorted(path.name for path in folder.parent.iterdir()) == ["key", "key.lock"]


def test_where_it_cannot_be_made_the_graph_itself_serves(bundle, tmp_path, monkeypatch, caplog):
    """Oracle: a cache below a file, where no folder can be made."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE, str(tmp_path / "file" / "cache"))
    _, graph = bundle.graph("float32")
    with caplog.at_level(logging.WARNING), packed(graph, "key") as found:
        assert found == graph
    assert "not shared" in caplog.text
