"""The service as it is really started: settings, the command, BentoML in front, and the Bento."""

import json
import os
import re
import socket
import tomllib
import warnings
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from serve_bundles import make_bundle
from serve_client import open_client, serving

from artifact.errors import ArtifactError, ServeError
from artifact.manifest import open_artifact
from serve.__main__ import main, name_bundles
from serve.config import read_service_config
from serve.huge_pages import VARIABLE, with_huge_pages
from serve.package import package
from serve.settings import check_settings, parse_bundles, read_count, read_settings

with warnings.catch_warnings():
    # BentoML uses names that pathspec and pydantic deprecate, while it is imported.
    warnings.simplefilter("ignore", DeprecationWarning)
    from serve.service import Understudy, build_app

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "student")


@pytest.fixture
def damaged(tmp_path) -> Path:
    directory = make_bundle(tmp_path / "damaged")
    content = bytearray((directory / "onnx/model.onnx").read_bytes())
    content[99] ^= 1
    (directory / "onnx/model.onnx").write_bytes(content)
    return directory


def test_settings_from_the_environment(bundle, tmp_path):
    """Oracle: the pairs written, in their order."""
    assert parse_bundles(f"a=/x{os.pathsep}b/int8=/y=z") == {"a": Path("/x"), "b/int8": Path("/y=z")}
    for wrong in ("a", "=x", "a=", f"a=x{os.pathsep}a=y"):
        with pytest.raises(ServeError, match="UNDERSTUDY_BUNDLES"):
            parse_bundles(wrong)
    assert read_settings({"UNDERSTUDY_BUNDLES": f"a={bundle}"}, tmp_path).default is None
    with pytest.raises(ServeError, match="no bundle to serve"):
        read_settings({}, tmp_path)
    assert read_count({"N": "3"}, "N") == 3
    assert read_count({}, "N") is None
    for wrong in ("0", "-1", "two", "1.5", "99999999999999999999"):
        with pytest.raises(ServeError, match="N is"):
            read_count({"N": wrong}, "N")


def test_app_from_the_environment(bundle, tmp_path):
    """Oracle: the bundle's precisions under the name given, or the one precision asked for."""
    environment = {"UNDERSTUDY_BUNDLES": f"actor={bundle}{os.pathsep}extra/int8={bundle}", "UNDERSTUDY_THREADS": "1"}
    with open_client(build_app(environment, tmp_path)) as client:
        info = client.get("/info").json()
    assert [model["id"] for model in info["models"]] == ["actor/float32", "actor/int8", "extra/int8"]
    assert info["default"] == "actor/int8"
    assert info["threads"]["intra_op_threads"] == 1
    assert set(info["digests"].values()) == {open_artifact(bundle).digest}


def test_settings_are_checked_before_anything_starts(bundle, tmp_path):
    """Oracle: the names the bundles have."""
    settings = read_settings({"UNDERSTUDY_BUNDLES": f"a={bundle}", "UNDERSTUDY_DEFAULT": "a/int8"}, tmp_path)
    check_settings(settings)
    with pytest.raises(ServeError, match="there is no model 'b'"):
        check_settings(settings.model_copy(update={"default": "b"}))
    with pytest.raises(ArtifactError, match="int4"):
        check_settings(settings.model_copy(update={"bundles": {"a/int4": bundle}}))


def test_names_on_the_command_line(bundle):
    """Oracle: the bundle's own name unless another is written."""
    assert name_bundles([str(bundle), f"other={bundle}"]) == {"student": bundle, "other": bundle}
    with pytest.raises(ServeError, match="two bundles are called 'student'"):
        name_bundles([str(bundle), str(bundle)])


def test_command_refuses_in_two_lines(bundle, damaged, capsys):
    """Oracle: exit 2, what is wrong with which file, and what to do; nothing was started."""
    assert main([str(damaged)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert "onnx/model.onnx was changed" in lines[0]
    assert main([str(bundle), "--workers", "999"]) == 2
    assert main([str(bundle), "--host", "not an address"]) == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main([str(bundle), "--port", str(taken.getsockname()[1])]) == 2
    assert "Address already in use" in capsys.readouterr().err


def test_supervisor_refuses_a_damaged_bundle(damaged, monkeypatch):
    """Oracle: BentoML's hook before any worker starts ends the process with those two lines."""
    monkeypatch.setenv("UNDERSTUDY_BUNDLES", f"student={damaged}")
    with pytest.raises(SystemExit, match=r"error: .*onnx/model.onnx was changed"):
        Understudy.inner.verify()


def test_bentofile_asks_for_the_serve_extra():
    """Oracle: pyproject.toml: the extra `serve` and what every install has, with the same versions."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    expected = {*project["dependencies"], *project["optional-dependencies"]["serve"]}
    assert set(yaml.safe_load(Path("bentofile.yaml").read_text())["python"]["packages"]) == expected


def test_real_service_answers_and_ends_cleanly(bundle, tmp_path):
    """Oracle: the same requests in process; exit 0 on SIGTERM, no worker left, no request in the log."""
    with serving(str(bundle), "--default", "student/int8", log=tmp_path / "log") as url:
        answer = httpx.post(f"{url}/predict", json={"inputs": "wake me"})
        with open_client(build_app({"UNDERSTUDY_BUNDLES": f"student={bundle}"}, tmp_path)) as client:
            expected = client.post("/predict", {"inputs": "wake me", "model": "student/int8"}).json()
        assert [item["label"] for item in answer.json()] == [item["label"] for item in expected]
        assert answer.headers["x-model"] == "student/int8"
        check_malformed(url)
        for probe in ("/livez", "/readyz", "/healthz"):
            assert httpx.get(url + probe).status_code == 200
        assert 'route="/predict",status="200"' in httpx.get(f"{url}/metrics").text
        assert "<title>Understudy</title>" in httpx.get(url).text
        port = int(url.rpartition(":")[2])
        listening = [each for each in psutil.Process().children(recursive=True) if listens(each, port)]
        assert len(listening) > 1, "the supervisor and its worker hold the same socket"
        assert listening[-1].environ()[VARIABLE] == with_huge_pages({})[VARIABLE]
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    text = (tmp_path / "log").read_text()
    assert re.search(r"threads: 1 worker x \d+ threads? on \d+ usable core", text)
    assert url in text
    assert "wake me" not in text
    assert "/predict" not in text


def listens(process: psutil.Process, port: int) -> bool:
    return any(each.laddr.port == port for each in process.net_connections() if each.status == psutil.CONN_LISTEN)


def check_malformed(url: str) -> None:
    """BentoML's own layers must not answer in our place."""
    for body, headers, status in (
        (b"{", JSON, 400),
        (b"{}", JSON, 422),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b" " * 1_000_001, JSON, 413),
        (b'{"inputs": "a", "model": "x"}', JSON, 404),
    ):
        answer = httpx.post(f"{url}/predict", content=body, headers=headers)
        assert answer.status_code == status
        assert set(answer.json()) == {"error", "error_type"}
    assert httpx.get(f"{url}/absent").json()["error_type"] == "Validation"


def test_package_is_a_bento_that_knows_its_bundles(bundle, tmp_path):
    """Oracle: the files on disk: sizes add up, the bundle inside verifies, the settings inside name the default."""
    facts = package({"student": bundle}, "student/int8", tmp_path)
    bento = tmp_path / "bento"
    files = [path for path in bento.rglob("*") if path.is_file()]
    assert facts["size_bytes"] == sum(path.stat().st_size for path in files) == sum(facts["content_bytes"].values())
    assert facts["content_bytes"]["bundles/student"] > 0
    assert open_artifact(bento / "src/bundles/student").digest == open_artifact(bundle).digest
    settings = read_settings({}, bento / "src")
    assert settings.default == "student/int8"
    assert settings.bundles["student"].is_dir()
    assert not any(path.is_symlink() or "__pycache__" in path.parts for path in files)
    assert any(line.startswith("onnxruntime") for line in facts["packages"])
    assert (bento / "env/python/requirements.lock.txt").read_text().splitlines() == facts["locked"]
    assert not {"torch", "transformers", "optimum", "onnx"} & {line.partition("==")[0] for line in facts["locked"]}
    assert facts["tag"].startswith("understudy:")
    json.dumps(facts)
    with pytest.raises(ServeError, match="no model 'nobody'"):
        package({"student": bundle}, "nobody", tmp_path / "other")


def test_a_bento_carries_its_cascade(tmp_path):
    """Oracle: the file given. What the Bento reads of itself names the cascade; a config of one's own replaces it."""
    names = ("student", "teacher")
    bundles = {name: make_bundle(tmp_path / name, name=name, seed=seed) for seed, name in enumerate(names)}
    service, own = tmp_path / "service", tmp_path / "own.yaml"
    service.mkdir()
    pair = {"student": "student/float32", "teacher": "teacher/float32", "threshold": 0.75}
    (service / "service.yaml").write_text(yaml.safe_dump({"cascades": {"cascade": pair}}))
    package(bundles, "student", tmp_path / "out", service=service)
    sources = tmp_path / "out/bento/src"
    found = read_settings({}, sources)
    assert (read_service_config(found.config).cascades or {})["cascade"].threshold == 0.75
    own.write_text("{}")
    assert read_settings({"UNDERSTUDY_CONFIG": str(own)}, sources).config == own
    (service / "service.yaml").write_text(yaml.safe_dump({"cascades": {"cascade": pair | {"teacher": "nobody/int8"}}}))
    with pytest.raises(ServeError, match="nobody/int8"):
        package(bundles, "student", tmp_path / "other", service=service)
