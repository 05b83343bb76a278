"""What a Bento is locked to, and the JSON that its service writes."""

import json
import math
from importlib.metadata import version

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from packaging.requirements import Requirement

from artifact.errors import ServeError
from serve.http.replies import encode
from serve.lock import lock


def test_a_lock_is_closed_and_true():
    """Oracle: importlib.metadata: each version is the one installed, and what Starlette needs is there too."""
    locked = [Requirement(line) for line in lock(["starlette>=0.40", "uvicorn[standard]; python_version < '3'"])]
    assert [str(each.specifier) for each in locked] == [f"=={version(each.name)}" for each in locked]
    assert {"starlette", "anyio", "idna"} <= {each.name for each in locked}
    assert "uvicorn" not in {each.name for each in locked}


def test_a_lock_knows_extras():
    """Oracle: our own pyproject.toml: the extra `serve` brings ONNX Runtime, and nothing brings torch."""
    names = {line.partition("==")[0] for line in lock(["understudy[serve]"])}
    assert {"onnxruntime", "pydantic"} <= names
    assert "torch" not in names
    assert not any(line.startswith("onnxruntime==") for line in lock(["understudy"]))


def test_a_lock_refuses_what_was_not_tested():
    """Oracle: the version installed."""
    with pytest.raises(ServeError, match=r"is installed, starlette<0\.1 is asked for"):
        lock(["starlette<0.1"])
    with pytest.raises(ServeError, match="nobody-wrote-this is not installed"):
        lock(["nobody-wrote-this"])


LEAVES = (
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False, allow_infinity=False) | some.text()
)


@given(some.recursive(LEAVES, lambda each: some.lists(each) | some.dictionaries(some.text(), each), max_leaves=20))
def test_json_reads_back_as_it_was(value):
    """Oracle: the standard library's reader gives the value written, to the bit."""
    assert json.loads(encode(value)) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [{"score": math.nan}], np.float64("nan")])
def test_json_holds_no_nan(value):
    """Oracle: RFC 8259 has none; orjson would write null."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(value)


def test_json_of_half_a_surrogate_pair():
    """Oracle: the standard library, which escapes it; orjson refuses."""
    assert json.loads(encode({"text": "\ud83d", "other": "é"})) == {"text": "\ud83d", "other": "é"}
