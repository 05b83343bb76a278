"""Sealing, opening, and the four states of an output directory."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from artifact.config import Config
from artifact.digest import hash_directory, hash_json
from artifact.errors import ArtifactError, RecipeMismatchError
from artifact.manifest import find_faults, open_artifact, read_manifest
from artifact.stage import Stage, State, find_state, request_of, run_stage


class Letters(Config):
    letters: str
    count: int = 1


def stage_of(out: Path, letters: str = "ab", *, keeps: str | None = None, **inputs: Path) -> Stage:
    config = Letters(letters=letters)
    kept = () if keeps is None else (keeps,)
    return Stage(name="write", version=1, kind="text", out=out, config=config, inputs=inputs, keeps=kept)


def write_letters(letters: str):
    def work(directory: Path) -> dict[str, int]:
        (directory / "letters.txt").write_text(letters, encoding="utf-8")
        (directory / "records").mkdir(exist_ok=True)
        (directory / "records" / "log.jsonl").write_text(f"{os.getpid()}\n", encoding="utf-8")
        return {"letters": len(letters)}

    return work


def fail(_directory: Path) -> dict[str, int]:
    raise AssertionError("a fresh stage must not run")


def test_a_fresh_stage_does_not_run_again(tmp_path):
    """Oracle: work that raises when called."""
    first = run_stage(stage_of(tmp_path / "a"), write_letters("ab"))
    assert run_stage(stage_of(tmp_path / "a"), fail) == first
    assert first.facts == {"letters": 2}


def test_the_digest_is_of_the_content_and_leaves_the_records_out(tmp_path):
    """Oracle: identity; two runs whose logs differ, and one whose content does."""
    digests = [run_stage(stage_of(tmp_path / name), write_letters("ab")).digest for name in ("a", "b")]
    (tmp_path / "a" / "records" / "log.jsonl").write_text("another", encoding="utf-8")
    assert digests[0] == digests[1]
    assert run_stage(stage_of(tmp_path / "c"), write_letters("abc")).digest != digests[0]


def test_hash_json_does_not_depend_on_the_order_of_keys():
    """Oracle: SHA-256 of the canonical text, recorded."""
    assert hash_json({"b": 1, "a": [1.5, "é"]}) == hash_json({"a": [1.5, "é"], "b": 1})
    assert hash_json({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("letters.txt", lambda p: p.write_bytes(b"aB"), r"letters\.txt was changed"),
        ("letters.txt", lambda p: p.write_bytes(b"abc"), r"letters\.txt has 3 bytes, sealed with 2"),
        ("letters.txt", Path.unlink, r"letters\.txt is missing"),
        ("manifest.json", lambda p: p.write_text(p.read_text().replace('"count": 1', '"count": 2')), "recipe hash"),
        ("manifest.json", lambda p: p.write_text("{"), "is not a manifest"),
        ("manifest.json", Path.unlink, "is not sealed"),
    ],
)
def test_a_changed_file_is_named(tmp_path, name, damage, message):
    """Oracle: the message a user reads."""
    run_stage(stage_of(tmp_path / "a"), write_letters("ab"))
    damage(tmp_path / "a" / name)
    with pytest.raises(ArtifactError, match=message):
        open_artifact(tmp_path / "a")


def test_a_manifest_cannot_point_outside_its_directory(tmp_path):
    """Oracle: refused before any file is read."""
    run_stage(stage_of(tmp_path / "a"), write_letters("ab"))
    path = tmp_path / "a" / "manifest.json"
    path.write_text(path.read_text().replace('"letters.txt"', '"../letters.txt"'))
    with pytest.raises(ArtifactError, match="outside its directory"):
        open_artifact(tmp_path / "a")


def test_another_kind_is_refused(tmp_path):
    """Oracle: the message a user reads."""
    run_stage(stage_of(tmp_path / "a"), write_letters("ab"))
    with pytest.raises(ArtifactError, match="is a text, expected a bundle"):
        open_artifact(tmp_path / "a", "bundle")


def test_another_recipe_is_refused_with_the_differing_field(tmp_path):
    """Oracle: the message, and the untouched file."""
    run_stage(stage_of(tmp_path / "a"), write_letters("ab"))
    with pytest.raises(RecipeMismatchError, match=r'config\.letters: "ab" -> "xy"'):
        run_stage(stage_of(tmp_path / "a", "xy"), fail)
    assert (tmp_path / "a" / "letters.txt").read_text() == "ab"
    assert run_stage(stage_of(tmp_path / "a", "xy"), write_letters("xy"), force=True).facts == {"letters": 2}
    assert (tmp_path / "a" / "letters.txt").read_text() == "xy"


def test_a_directory_of_somebody_else_is_never_touched(tmp_path):
    """Oracle: the user's file is still there, also after --force."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    for force in (False, True):
        with pytest.raises(ArtifactError, match="was not made by understudy"):
            run_stage(stage_of(tmp_path / "photos"), fail, force=force)
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"cat"


def test_an_input_digest_is_part_of_the_request(tmp_path):
    """Oracle: a stage is fresh only while its input is the one it was made from."""
    run_stage(stage_of(tmp_path / "a"), write_letters("ab"))
    made = run_stage(stage_of(tmp_path / "b", source=tmp_path / "a"), write_letters("b"))
    assert made.lineage["source"].path == "../a"
    run_stage(stage_of(tmp_path / "a", "xy"), write_letters("xy"), force=True)
    with pytest.raises(RecipeMismatchError, match=r"inputs\.source"):
        run_stage(stage_of(tmp_path / "b", source=tmp_path / "a"), fail)


def test_a_changed_input_stops_the_stage_that_reads_it(tmp_path):
    """Oracle: the message names the input's file; nothing is sealed."""
    run_stage(stage_of(tmp_path / "a"), write_letters("ab"))
    (tmp_path / "a" / "letters.txt").write_text("aX")
    with pytest.raises(ArtifactError, match=r"letters\.txt was changed"):
        run_stage(stage_of(tmp_path / "b", source=tmp_path / "a"), write_letters("b"))
    with pytest.raises(ArtifactError, match="is not sealed"):
        read_manifest(tmp_path / "b")


def die_half_way(out: Path) -> None:
    def work(directory: Path) -> dict[str, int]:
        (directory / "half.txt").write_text("half")
        os._exit(9)

    run_stage(stage_of(out, keeps="*.txt"), work)


@pytest.mark.parametrize(("keeps", "goes_on"), [("half.txt", True), ("whole/*.txt", False), (None, False)])
def test_a_killed_stage_goes_on_or_starts_clean(tmp_path, keeps, goes_on):
    """Oracle: what is on disk when the work is called again; the dead process's lock is gone."""
    process = multiprocessing.get_context("spawn").Process(target=die_half_way, args=(tmp_path / "a",))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    stage = stage_of(tmp_path / "a", keeps=keeps)
    assert find_state(stage.out, request_of(stage)[0]) is State.INTERRUPTED
    assert stage.can_go_on is goes_on
    seen = []

    def work(directory: Path) -> dict[str, int]:
        seen.append((directory / "half.txt").exists())
        return write_letters("ab")(directory)

    run_stage(stage, work)
    assert seen == [goes_on]


def test_an_interrupted_run_of_another_recipe_is_not_cleared(tmp_path):
    """Oracle: refused, naming the field; hours of training are not thrown away by a changed number."""

    def stop(directory: Path) -> dict[str, int]:
        (directory / "checkpoint").write_text("hours")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_stage(stage_of(tmp_path / "a", keeps="check*"), stop)
    with pytest.raises(RecipeMismatchError, match=r"config\.letters"):
        run_stage(stage_of(tmp_path / "a", "xy", keeps="check*"), fail)


def test_a_failed_stage_that_left_nothing_to_go_on_from_needs_no_force(tmp_path):
    """Oracle: the second request is worked for; only what could be resumed is worth a question."""
    for keeps in (None, "check*"):
        out = tmp_path / str(keeps)
        with pytest.raises(ZeroDivisionError):
            run_stage(stage_of(out, keeps=keeps), lambda _: {"x": 1 // 0})
        assert run_stage(stage_of(out, "xy", keeps=keeps), write_letters("xy")).facts == {"letters": 2}


def test_two_runs_cannot_share_a_directory(tmp_path):
    """Oracle: the second is refused while the first works."""

    def work(directory: Path) -> dict[str, int]:
        with pytest.raises(ArtifactError, match="another run is working on"):
            run_stage(stage_of(tmp_path / "a"), fail)
        return write_letters("ab")(directory)

    run_stage(stage_of(tmp_path / "a"), work)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; the next test stands in")
def test_a_read_only_directory_is_one_clear_error(tmp_path):
    """Oracle: the message a user reads."""
    tmp_path.chmod(0o500)
    with pytest.raises(ArtifactError, match="cannot write"):
        run_stage(stage_of(tmp_path / "a"), fail)


def test_an_output_below_a_file_is_one_clear_error(tmp_path):
    """Oracle: the message a user reads, with the way out."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"cannot write .*\n.*--out"):
        run_stage(stage_of(tmp_path / "file" / "a"), fail)


def test_links_are_not_sealed(tmp_path):
    """Oracle: an artefact that is moved must not lose its files."""

    def work(directory: Path) -> dict[str, int]:
        (directory / "link").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").write_text("x")
        return {}

    with pytest.raises(ArtifactError, match="symbolic link"):
        run_stage(stage_of(tmp_path / "a"), work)


def test_faults_are_listed_all_at_once(tmp_path):
    """Oracle: two damaged files, two lines."""

    def work(directory: Path) -> dict[str, int]:
        (directory / "one").write_text("1")
        (directory / "two").write_text("2")
        return {}

    manifest = run_stage(stage_of(tmp_path / "a"), work)
    (tmp_path / "a" / "one").write_text("x")
    (tmp_path / "a" / "two").unlink()
    assert len(find_faults(tmp_path / "a", manifest)) == 2


def test_a_foreign_directory_has_a_digest_of_its_content(tmp_path):
    """Oracle: identity under copying, change under editing."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert hash_directory(tmp_path / "a") == hash_directory(tmp_path / "b")
    (tmp_path / "b" / "config.json").write_text("[]")
    assert hash_directory(tmp_path / "a") != hash_directory(tmp_path / "b")


def test_the_manifest_is_plain_json(tmp_path):
    """Oracle: the json module."""
    run_stage(stage_of(tmp_path / "a"), write_letters("ab"))
    tree = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert tree["files"]["letters.txt"]["size_bytes"] == 2
    assert not (tmp_path / "a" / "working.json").exists()


def test_a_full_disk_is_one_clear_error_and_the_old_file_stays(tmp_path):
    """Oracle: the file before; the kernel refuses every file above 100 bytes, as a full disk would."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from artifact.manifest import write_json\n"
        "from artifact.errors import ArtifactError\n"
        "path = Path(sys.argv[1]); write_json(path, 1)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try: write_json(path, 'x' * 20000)\n"
        "except ArtifactError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"cannot write {tmp_path / 'a.json'}: File too large\n  make room")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "1\n"
