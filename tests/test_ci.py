"""What `deploy/` gives CI systems: the script's refusals, the action, the workflow, its caches' names, its comment."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from pipeline.__main__ import build_parser
from pipeline.digest import digest_recipe

ROOT = Path(__file__).parent.parent
CI, GITHUB = ROOT / "deploy" / "ci", ROOT / "deploy" / "github"
SCRIPT = CI / "compress.sh"
GIVEN = {"HOME", "PATH", "GITHUB_ACTION_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "RUNNER_TEMP"}
"""Variables that a step finds without our doing."""


def read(path: Path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps():
    return read(GITHUB / "action.yml")["runs"]["steps"]


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, GITHUB / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ([], {}, "no recipe was named"),
        (["recipe.yaml", "--inconclusive", "maybe"], {}, "--inconclusive is maybe, expected fail or pass"),
        (["recipe.yaml", "--out"], {}, "--out wants a value"),
        (["recipe.yaml", "--fast"], {}, "unknown option --fast"),
        (["recipe.yaml"], {"OVERRIDES": "bench.rounds=6\n--keep"}, "OVERRIDES holds '--keep', expected key=value"),
    ],
)
def test_the_script_refuses_before_it_does_anything(tmp_path, arguments, environment, message):
    """Oracle: exit 2, the message, an empty folder; the command it would call does not exist."""
    done = subprocess.run(
        ["sh", str(SCRIPT), *arguments], capture_output=True, text=True, cwd=tmp_path, check=False,
        env={"PATH": os.environ["PATH"], "UNDERSTUDY": "no-such-command"} | environment,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert list(tmp_path.iterdir()) == []


def test_the_script_says_what_it_takes():
    """Oracle: the options and variables that the script reads."""
    done = subprocess.run(["sh", str(SCRIPT), "--help"], capture_output=True, text=True, check=True)
    text = SCRIPT.read_text(encoding="utf-8")
    (options,) = re.findall(r"^    (--out \|.*)\)$", text, flags=re.MULTILINE)
    assert set(options.split(" | ")) <= set(re.findall(r"--[a-z]+", done.stdout))
    assert set(re.findall(r"([A-Z]+)=\$\{\1", text)) <= set(re.findall(r"[A-Z]+", done.stdout))
    assert "Exit code" in done.stdout
    assert os.access(SCRIPT, os.X_OK)


def test_commands_and_options_are_the_programs():
    """Oracle: the parser of `understudy`."""
    (commands,) = (action.choices for action in build_parser()._actions if action.choices)
    text = SCRIPT.read_text(encoding="utf-8")
    calls = re.findall(r"\bcall ([a-z]+)(.*)", text.replace("\\\n", ""))
    used = {name: set(re.findall(r"(?<!\S)--[a-z]+", "".join(r for n, r in calls if n == name))) for name, _ in calls}
    used["gate"] |= set(re.findall(r"\bset -- (--[a-z]+)", text))
    assert used == {
        "digest": {"--json"}, "run": {"--out", "--force"}, "gate": {"--json", "--junit", "--markdown", "--baseline"},
    }  # fmt: skip
    for name, options in used.items():
        assert options <= set(commands[name]._option_string_actions), name
    assert '"digest"' in (GITHUB / "keys.py").read_text(encoding="utf-8")


def test_the_action_is_a_composite_action():
    """Oracle: what GitHub asks of one: a name, a description, described inputs, and a shell for each `run`."""
    action = read(GITHUB / "action.yml")
    assert action.keys() == {"name", "description", "inputs", "outputs", "runs"}
    assert action["runs"].keys() == {"using", "steps"}
    assert action["runs"]["using"] == "composite"
    for given in action["inputs"].values():
        assert given["description"]
        assert given.get("required") or isinstance(given["default"], str)
    for step in steps():
        assert step.keys() <= {"name", "id", "if", "uses", "with", "run", "shell", "env"}
        assert ("run" in step) != ("uses" in step)
        assert ("run" in step) == ("shell" in step)
        assert "uses" not in step or re.fullmatch(r"actions/[a-z-]+(/[a-z]+)?@v\d+", step["uses"])


def test_nothing_is_pasted_into_a_shell():
    """Oracle: no expression inside a `run`; each variable that it reads stands in its `env`, or is GitHub's own."""
    for path, found in [(GITHUB / "action.yml", steps()), (GITHUB / "workflow.yml", workflow_steps())]:
        for step in found:
            script = step.get("run", "")
            assert "${{" not in script, path
            read_here = set(re.findall(r"\$\{?([A-Z_]+)", script))
            assert read_here <= step.get("env", {}).keys() | GIVEN, step["name"]


def test_what_the_action_refers_to_exists():
    """Oracle: its own steps' ids, inputs and the names that keys.py prints; files; the script's variables."""
    text = (GITHUB / "action.yml").read_text(encoding="utf-8")
    names = {step["id"] for step in steps() if "id" in step}
    assert set(re.findall(r"steps\.([a-z]+)\.", text)) == names
    action = read(GITHUB / "action.yml")
    assert set(re.findall(r"inputs\.([a-z-]+)", text)) == action["inputs"].keys()
    printed = set(re.findall(r'^        "([a-z-]+)":', (GITHUB / "keys.py").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"steps\.keys\.outputs\.([a-z-]+)", text)) == printed
    for inside in re.findall(r'\$GITHUB_ACTION_PATH/([^"]+)"', text):
        assert (GITHUB / inside).exists(), inside
    (compress,) = (step for step in steps() if step.get("id") == "compress")
    script = SCRIPT.read_text(encoding="utf-8")
    assert all(f"{name}=${{{name}" in script for name in compress["env"])


def test_the_workflow_may_do_no_more_than_it_needs():
    """Oracle: GitHub's keys; rights are given to the one job; the action is ours, with inputs that it has."""
    workflow = read(GITHUB / "workflow.yml")
    assert workflow[True].keys() == {"pull_request", "push"}  # YAML reads `on` as true
    assert workflow["permissions"] == {}
    (job,) = workflow["jobs"].values()
    assert job["permissions"] == {"contents": "read", "actions": "read", "pull-requests": "write"}
    assert job["timeout-minutes"] <= 60
    checkout, ours = workflow_steps()
    assert checkout["with"] == {"persist-credentials": False}
    assert (ROOT / ours["uses"] / "action.yml").exists()
    inputs = read(GITHUB / "action.yml")["inputs"]
    assert ours["with"].keys() <= inputs.keys()
    assert {name for name, given in inputs.items() if given.get("required")} <= ours["with"].keys()
    assert (ROOT / ours["with"]["recipe"]).exists()


def workflow_steps():
    (job,) = read(GITHUB / "workflow.yml")["jobs"].values()
    return job["steps"]


def test_gitlabs_job_agrees_with_the_script():
    """Oracle: the script: its variables, its exit code for inconclusive, its files."""
    job = read(CI / "gitlab.yml")["compress"]
    text = SCRIPT.read_text(encoding="utf-8")
    ours = job["variables"].keys() - {"PIP_CACHE_DIR"} | {name for rule in job["rules"] for name in rule["variables"]}
    assert all(f"{name}=${{{name}" in text for name in ours)
    assert job["allow_failure"]["exit_codes"] == [3]
    assert (ROOT / job["script"][0].removeprefix("sh ")) == SCRIPT
    assert (ROOT / job["variables"]["RECIPE"]).exists()
    assert job["artifacts"]["reports"]["junit"] == f"{job['variables']['ARTEFACTS']}/junit*.xml"
    assert job["variables"]["OUT"] in job["cache"][1]["paths"]
    kept, base = (next(r["variables"][k] for r in job["rules"] if k in r["variables"]) for k in ("KEEP", "BASELINE"))
    assert f"{kept}/" in job["artifacts"]["paths"]
    assert base.endswith(f"/{kept}")


def test_names_of_caches_begin_alike_only_for_the_same_recipe_and_branch():
    """Oracle: string comparison, over digests, recipes, branches and commits; no comma, which GitHub refuses."""
    keys = load("keys")
    machine = {"RUNNER_OS": "Linux", "RUNNER_ARCH": "X64"}

    def names(recipe: str, digest: str, branch: str, commit: str) -> dict[str, str]:
        found = {"recipe": recipe, "packages": "p" * 64, "digest": digest}
        return keys.name_caches(found, machine | {"BASELINE_BRANCH": branch, "GITHUB_SHA": commit})

    one, two = names("demo", "a", "main", "1"), names("demo", "b", "main", "2")
    others = [names("demo-2", "a", "main", "1"), names("demo", "a", "main,2", "1")]
    assert one["baseline"] != two["baseline"]
    assert one["stages"] != two["stages"]
    for kind in ("stages", "baseline"):
        before = one[f"{kind}-before"]
        assert before == two[f"{kind}-before"]
        assert one[kind].startswith(before)
        assert two[kind].startswith(before)
        assert not others[0][kind].startswith(before)
    assert not others[1]["baseline"].startswith(one["baseline-before"])
    assert not any("," in value for value in others[1].values())


def test_the_action_gets_the_names_of_a_recipe(monkeypatch, capfd):
    """Oracle: the digest computed here; and where the command fails, its exit code and no names."""
    keys = load("keys")
    monkeypatch.chdir(ROOT)
    given = {
        "UNDERSTUDY": f"{sys.executable} -m pipeline", "RUNNER_OS": "Linux", "RUNNER_ARCH": "X64", "GITHUB_SHA": "1",
        "BASELINE_BRANCH": "main", "RECIPE": "recipes/demo.yaml", "OVERRIDES": "bench.rounds=7\n\n",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert keys.main() == 0
    told = dict(line.split("=", 1) for line in capfd.readouterr().out.splitlines())
    assert told["recipe"] == "demo"
    assert told["stages"].endswith(digest_recipe(ROOT / "recipes" / "demo.yaml", ["bench.rounds=7"])["digest"])
    monkeypatch.setenv("UNDERSTUDY", "sh -c 'exit 2'")
    assert keys.main() == 2
    assert capfd.readouterr().out == ""


class Issues(BaseHTTPRequestHandler):
    """As much of GitHub's comments as we use: pages of 100, numbers, authors, and what was asked of it."""

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        begin = (int(query["page"][0]) - 1) * int(query["per_page"][0])
        self.answer(self.server.comments[begin : begin + int(query["per_page"][0])])

    def do_POST(self):
        assert self.path == "/repos/owner/name/issues/7/comments"
        comment = {"id": 1000 + len(self.server.comments), "user": {"type": "Bot"}, **self.content()}
        self.server.comments.append(comment)
        self.answer(comment | {"html_url": "https://example.com/new"})

    def do_PATCH(self):
        number = int(self.path.removeprefix("/repos/owner/name/issues/comments/"))
        (comment,) = (each for each in self.server.comments if each["id"] == number)
        comment |= self.content()
        self.answer(comment | {"html_url": "https://example.com/edited"})

    def content(self):
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body):
        self.server.asked.append((self.command, self.headers["Authorization"]))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *arguments):
        pass


@pytest.fixture
def issues(monkeypatch):
    with HTTPServer(("127.0.0.1", 0), Issues) as server:
        server.comments = [
            {"id": number, "user": {"type": "User"}, "body": "<!-- understudy: demo -->"} for number in range(130)
        ]
        server.asked, server.status = [], 200
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        given = {
            "GITHUB_API_URL": f"http://127.0.0.1:{server.server_port}", "GITHUB_REPOSITORY": "owner/name",
            "GITHUB_SERVER_URL": "https://github.com", "GITHUB_RUN_ID": "5", "GITHUB_TOKEN": "t",
            "PULL_REQUEST": "7", "RECIPE_NAME": "demo",
        }  # fmt: skip
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_one_comment_is_written_and_then_edited(issues, tmp_path):
    """Oracle: a server that keeps comments; ours stands on its second page, behind a person's with the same mark."""
    comment = load("comment")
    summary = tmp_path / "summary.md"
    for text in ("## Pass\n", "## Fail\n"):
        summary.write_text(text, encoding="utf-8")
        assert comment.main(summary) == 0
    ours = issues.comments[130:]
    assert len(ours) == 1
    assert ours[0]["body"].startswith("<!-- understudy: demo -->\n## Fail\n")
    assert "(https://github.com/owner/name/actions/runs/5)" in ours[0]["body"]
    assert [method for method, _ in issues.asked] == ["GET", "GET", "POST", "GET", "GET", "PATCH"]
    assert {token for _, token in issues.asked} == {"Bearer t"}


def test_a_token_that_may_not_comment_is_a_warning(issues, tmp_path, capsys):
    """Oracle: GitHub's 403; anything else is raised."""
    comment = load("comment")
    (tmp_path / "summary.md").write_text("## Pass\n", encoding="utf-8")
    issues.status = 403
    assert comment.main(tmp_path / "summary.md") == 0
    assert "::warning" in capsys.readouterr().out
    issues.status = 500
    with pytest.raises(OSError, match="500"):
        comment.main(tmp_path / "summary.md")


def test_a_long_summary_is_cut_and_its_folds_closed(issues):
    """Oracle: GitHub's limit, and as many ends of folds as beginnings."""
    comment = load("comment")
    body = comment.make_body("<!-- m -->", "<details>\n\n" + "| row |\n" * 20_000 + "</details>\n")
    assert len(body) < 65_536
    assert body.count("<details>") == body.count("</details>") == 1
    assert body.index("</details>") < body.index("(cut here)") < body.index("actions/runs")
