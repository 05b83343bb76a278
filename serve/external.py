"""Which other files a graph reads, found without `onnx`: ONNX Runtime opens any path that a graph names.

ONNX keeps large tensors in files beside the graph ("external data"), each by a location that the graph's author
chose. A bundle may come from elsewhere, so each location has to be a file that the bundle itself was sealed with.

The walk knows of protobuf only how fields are framed, and of ONNX only the fields on the way to a tensor, by their
numbers in `onnx.proto3`. What it cannot follow it refuses.
"""

import mmap
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath

from artifact.errors import ArtifactError

HINT = "take bundles from where you trust, or export it again with --force"

FIELDS: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
"""By message, the fields that hold a message on the way to `TensorProto.external_data`, and which message."""

VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5
"""Protobuf's ways to frame a field; the others, groups, are of another age."""
Span = tuple[int, int]
"""Where a message's bytes begin, and one past where they end."""


class _BadFrameError(Exception):
    """Bytes that are no protobuf, or of a kind that no exporter writes."""


def check_external_data(directory: Path, graph: str, sealed: Collection[str]) -> None:
    """`ArtifactError` when the graph reads a file that is not sealed in its bundle, or is no ONNX graph at all.

    `graph` and `sealed` are names relative to `directory`. A link is followed, and may not lead out of it.
    """
    _check_inside(directory, graph, graph)
    if not graph.endswith(".onnx"):  # ONNX Runtime reads another format by another ending, which we do not
        raise ArtifactError(f"{directory / graph} is not called .onnx", HINT)
    try:
        locations = find_locations(directory / graph)
    except (_BadFrameError, UnicodeDecodeError):
        raise ArtifactError(f"{directory / graph} does not load: it is not an ONNX graph", HINT) from None
    for location in sorted(locations):
        path = PurePosixPath(location)
        name = str(PurePosixPath(graph).parent / path)
        if path.is_absolute() or ".." in path.parts or "\\" in location or name not in sealed:
            shown = ascii(location[:100])
            raise ArtifactError(f"{directory / graph} reads {shown}, which is not sealed in the bundle", HINT)
        _check_inside(directory, name, graph)


def find_locations(graph: Path) -> set[str]:
    """Every location of external data that the graph names, in its subgraphs and functions too."""
    with graph.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file cannot be mapped, and is an empty message
            return set()
        with data:
            return set(_walk(data))


def _check_inside(directory: Path, name: str, graph: str) -> None:
    root = directory.resolve()
    if not (directory / name).resolve().is_relative_to(root):
        raise ArtifactError(f"{directory / graph} reads {name!r}, a link that leads out of the bundle", HINT)


def _walk(data: mmap.mmap) -> Iterator[str]:
    """A stack and no recursion: how deep graphs are nested is up to their author."""
    waiting: list[tuple[str, Span]] = [("model", (0, len(data)))]
    while waiting:
        message, span = waiting.pop()
        if message == "entry":
            yield from _read_entry(data, span)
            continue
        known = FIELDS[message]
        for number, inner in _fields(data, span):
            if number in known:
                waiting.append((known[number], inner))


def _read_entry(data: mmap.mmap, span: Span) -> Iterator[str]:
    """The values of a `StringStringEntryProto` that is a location; of a field written twice, all count."""
    keys: list[bytes] = []
    values: list[bytes] = []
    for number, (begin, end) in _fields(data, span):
        if number in (1, 2):
            (keys if number == 1 else values).append(data[begin:end])
    if b"location" in keys:
        yield from (value.decode("utf-8") for value in values or [b""])


def _fields(data: mmap.mmap, span: Span) -> Iterator[tuple[int, Span]]:
    """Number and content of each length-delimited field; others hold neither messages nor text."""
    place, end = span
    while place < end:
        tag, place = _read_varint(data, place, end)
        kind = tag & 7
        if tag >= 1 << 32:  # some parsers drop the bits above, and would read another field than we
            raise _BadFrameError
        if kind == VARINT:
            _, place = _read_varint(data, place, end)
            continue
        if kind == LENGTH:
            size, place = _read_varint(data, place, end)
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            size = 8 if kind == EIGHT_BYTES else 4
        else:
            raise _BadFrameError
        if size > end - place:
            raise _BadFrameError
        if kind == LENGTH:
            yield tag >> 3, (place, place + size)
        place += size


def _read_varint(data: mmap.mmap, place: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= end:
            raise _BadFrameError
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise _BadFrameError
