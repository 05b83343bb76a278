"""The two pages of the service, `/` and `/docs`, each one answer without a second request.

A page is an HTML file in `page/` that names its styles and scripts as files beside it; here they are put inside it.
The policy that goes with a page allows exactly these, by their hashes: nothing injected runs, nothing is loaded from
elsewhere, and requests go to this service alone.
"""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from starlette.responses import HTMLResponse, Response

FOLDER = Path(__file__).parent / "page"
STYLE = re.compile(r'<link rel="stylesheet" href="([a-z]+\.css)">')
SCRIPT = re.compile(r'<script src="([a-z]+\.js)"></script>')


def show_page(name: str) -> Response:
    """The page `name`, a file in `page/`, with its policy."""
    content, policy = _read_page(name)
    return HTMLResponse(content, headers={"content-security-policy": policy})


@cache
def _read_page(name: str) -> tuple[str, str]:
    """The HTML with all it needs inside, and its content security policy."""
    page = (FOLDER / name).read_text(encoding="utf-8")
    styles, scripts = ([_read(file) for file in kind.findall(page)] for kind in (STYLE, SCRIPT))
    page = STYLE.sub(lambda found: f"<style>{_read(found[1])}</style>", page)
    page = SCRIPT.sub(lambda found: f"<script>{_read(found[1])}</script>", page)
    rules = {
        "default-src": "'none'",
        "style-src": _allow(styles),
        "script-src": _allow(scripts),
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return page, "; ".join(f"{rule} {value}" for rule, value in rules.items())


def _read(file: str) -> str:
    return (FOLDER / file).read_text(encoding="utf-8")


def _allow(contents: list[str]) -> str:
    """The sources of a policy, each a hash as https://www.w3.org/TR/CSP3/ section 2.3.1 writes it."""
    digests = (base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
