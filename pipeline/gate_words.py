"""How a gate's numbers read: in the table, in a reason, in a pull request."""

from pipeline.gate_config import METRICS, Gate, Metric
from pipeline.results import GateResult, Interval


def subject_of(gate: Gate, word: str | None = None) -> str:
    """What the compared number is of, `word` for quality; a ratio of latencies that `min_ratio` bounds is of speeds."""
    return "speed" if gate.limit().is_speed else word or METRICS[gate.metric].word


def describe(gate: Gate, compared: Interval, word: str | None = None) -> str:
    """`accuracy 0.991 [0.985, 0.997] times that of teacher/float32, wanted >= 0.98`."""
    limit = gate.limit()
    number = format_number(gate.metric, limit.kind, compared)
    if limit.kind == "ratio":
        number += f" times that of {gate.reference}"
    elif limit.kind == "difference":
        number += f" from that of {gate.reference}"
    return f"{subject_of(gate, word)} {number}, wanted {limit}"


def format_compared(gate: GateResult) -> str:
    """The number that was held against the bound."""
    return format_number(_metric(gate), gate.kind, gate.ratio)


def format_value(gate: GateResult) -> str:
    """The candidate's own number with its unit."""
    return "" if gate.value is None else format_number(_metric(gate), "value", gate.value)


def format_number(metric: Metric, kind: str, number: Interval) -> str:
    """`0.991 [0.985, 0.997]`; a difference has a sign, a number of its own a unit."""
    meaning = METRICS[metric]
    places = meaning.decimals if kind != "ratio" else 3 if number.value < 2 else 2
    sign = "+" if kind == "difference" else ""
    text = f"{number.value:{sign}.{places}f}"
    if number.low < number.high:
        text += f" [{number.low:{sign}.{places}f}, {number.high:{sign}.{places}f}]"
    return text if kind == "ratio" else f"{text} {meaning.unit}".rstrip()


def _metric(gate: GateResult) -> Metric:
    return next(name for name in METRICS if name == gate.metric)
