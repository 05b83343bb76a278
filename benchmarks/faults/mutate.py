"""Bodies that are nearly what the service expects: pure functions of a body and a seeded generator."""

import json
import random
from collections.abc import Callable
from typing import Any

VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, -0.0, 10**30, "", "\x00", "\ud800", "a" * 5000, "é" * 300, [], {}, [[]], [None], [[""]],
    [["a", "b", "c"]], {"inputs": "x"}, ["a"] * 129, [0.5], "\u202e", "\n", [["a"], "b"],
)  # fmt: skip
"""What may take a value's place."""
KEYS = ("inputs", "model", "truncate", "dimensions", "input", "texts", "query", "raw_scores", "\ud800", "", "__proto__")
CONTENT_TYPES = ("application/json", "application/json", "application/json; charset=utf-16", "text/plain", "", "é/json")

Mutation = Callable[[bytes, random.Random], bytes]


def mutate(body: bytes, order: random.Random) -> bytes:
    """One to three mutations, one after the other."""
    for _ in range(order.randint(1, 3)):
        body = order.choice(MUTATIONS)(body, order)
    return body


def _flip(body: bytes, order: random.Random) -> bytes:
    found = bytearray(body or b"{")
    for _ in range(order.randint(1, 8)):
        found[order.randrange(len(found))] = order.randrange(256)
    return bytes(found)


def _cut(body: bytes, order: random.Random) -> bytes:
    return body[: order.randrange(len(body) + 1)]


def _repeat(body: bytes, order: random.Random) -> bytes:
    start, stop = sorted((order.randrange(len(body) + 1), order.randrange(len(body) + 1)))
    return body[:stop] + body[start:stop] * order.choice((1, 2, 50)) + body[stop:]


def _noise(_: bytes, order: random.Random) -> bytes:
    return order.randbytes(order.choice((0, 1, 16, 400)))


def _nest(body: bytes, order: random.Random) -> bytes:
    depth = order.choice((3, 100, 3000))
    return b'{"inputs":' + b"[" * depth + body + b"]" * order.choice((depth, depth - 1)) + b"}"


def _swap_value(body: bytes, order: random.Random) -> bytes:
    tree = _tree(body)
    if isinstance(tree, dict) and tree:
        tree[order.choice(list(tree))] = order.choice(VALUES)
    elif isinstance(tree, list) and tree:
        tree[order.randrange(len(tree))] = order.choice(VALUES)
    else:
        tree = order.choice(VALUES)
    return _bytes(tree)


def _swap_key(body: bytes, order: random.Random) -> bytes:
    tree = _tree(body)
    if isinstance(tree, dict) and tree:
        tree[order.choice(KEYS)] = tree.pop(order.choice(list(tree)))
    return _bytes(tree)


def _add_key(body: bytes, order: random.Random) -> bytes:
    tree = _tree(body)
    return _bytes({**(tree if isinstance(tree, dict) else {}), order.choice(KEYS): order.choice(VALUES)})


def _tree(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return {}


def _bytes(tree: Any) -> bytes:
    """As JSON; a lone surrogate as the escape that JSON allows, which no UTF-8 can hold."""
    return json.dumps(tree).encode()


MUTATIONS: tuple[Mutation, ...] = (_flip, _cut, _repeat, _noise, _nest, _swap_value, _swap_key, _add_key)
