"""`python comment.py SUMMARY.md`: one comment on a pull request, written once and edited after that.

Reads GITHUB_TOKEN, PULL_REQUEST (its number), RECIPE_NAME, and of GitHub's own GITHUB_API_URL, GITHUB_REPOSITORY,
GITHUB_SERVER_URL and GITHUB_RUN_ID. Needs nothing but Python, so that it runs wherever the action does.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

LIMIT = 65_000
"""Characters; GitHub refuses a comment of more than 65,536."""

PAGE = 100


def main(path: Path) -> int:
    """Find the comment that bears our mark and edit it, or write it. A token that may not comment is a warning."""
    issues = f"{os.environ['GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}/issues"
    mark = f"<!-- understudy: {os.environ['RECIPE_NAME']} -->"
    content = {"body": make_body(mark, path.read_text(encoding="utf-8"))}
    try:
        ours = find_comment(f"{issues}/{os.environ['PULL_REQUEST']}/comments", mark)
        if ours is None:
            told = ask("POST", f"{issues}/{os.environ['PULL_REQUEST']}/comments", content)
        else:
            told = ask("PATCH", f"{issues}/comments/{ours}", content)
    except urllib.error.HTTPError as error:
        if error.code != 403:
            raise
        sys.stdout.write("::warning title=Understudy::the token may not comment; it needs `pull-requests: write`\n")
        return 0
    sys.stdout.write(f"commented: {told['html_url']}\n")
    return 0


def make_body(mark: str, summary: str) -> str:
    """The summary below its mark, cut where it is too long, with a link to the run, whose artefact has the report."""
    repository = f"{os.environ['GITHUB_SERVER_URL']}/{os.environ['GITHUB_REPOSITORY']}"
    run = f"{repository}/actions/runs/{os.environ['GITHUB_RUN_ID']}"
    foot = f"\n\n[The whole report is an artefact of this run.]({run})\n"
    if len(summary) > LIMIT:
        cut = summary[:LIMIT].rpartition("\n")[0]
        # A fold that the cut left open would swallow the foot.
        summary = cut + "\n\n</details>" * (cut.count("<details>") - cut.count("</details>")) + "\n\n(cut here)"
    return f"{mark}\n{summary.rstrip()}{foot}"


def find_comment(comments: str, mark: str) -> int | None:
    """The comment that begins with `mark`. Only a bot's: whoever may comment could write the mark."""
    number = 1
    while True:
        page = ask("GET", f"{comments}?per_page={PAGE}&page={number}")
        for comment in page:
            if comment["body"].startswith(mark) and comment["user"]["type"] == "Bot":
                return int(comment["id"])
        if len(page) < PAGE:
            return None
        number += 1


def ask(method: str, url: str, content: dict[str, str] | None = None) -> Any:
    """GitHub's answer as JSON; raises `HTTPError` where it refuses."""
    headers = {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}",
        "Content-Type": "application/json",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - the address is GitHub's own
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
