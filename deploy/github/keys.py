"""Names of the caches for the action: lines of `name=value` for `$GITHUB_OUTPUT`.

Reads RECIPE, OVERRIDES (one a line), BASELINE_BRANCH, and of GitHub's own RUNNER_OS, RUNNER_ARCH and GITHUB_SHA.

A cache is looked for by its whole key, then by how it begins, newest first; GitHub gives a pull request those of its
own and of its base branch. The parts are joined by a sign that none of them holds, so no beginning fits another
recipe or branch. Stages begin with the versions of the packages: what other versions made is not taken up. A
baseline is: it is measured anew, beside the candidate.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from typing import Any


def main() -> int:
    """Print the names; the exit code of `understudy digest`, which has told its own error."""
    command = shlex.split(os.environ.get("UNDERSTUDY", "understudy"))
    overrides = [line for line in os.environ.get("OVERRIDES", "").splitlines() if line.strip()]
    arguments = ["digest", os.environ["RECIPE"], *overrides, "--json"]
    done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        return done.returncode
    names = name_caches(json.loads(done.stdout), os.environ)
    sys.stdout.write("".join(f"{name}={value}\n" for name, value in names.items()))
    return 0


def name_caches(found: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """The whole key of each cache and how it begins, from what `understudy digest --json` said."""
    machine = (environment["RUNNER_OS"], environment["RUNNER_ARCH"])
    stages = _join("understudy", *machine, found["recipe"], found["packages"][:16], "")
    baseline = _join("understudy-baseline", *machine, found["recipe"], environment["BASELINE_BRANCH"], "")
    return {
        "recipe": found["recipe"],
        "stages": stages + found["digest"],
        "stages-before": stages,
        "baseline": baseline + environment["GITHUB_SHA"],
        "baseline-before": baseline,
    }


def _join(*parts: str) -> str:
    return "@".join(re.sub(r"[^A-Za-z0-9._/-]", "_", part) for part in parts)


if __name__ == "__main__":
    sys.exit(main())
