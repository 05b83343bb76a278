"""`junit.xml`: one test case a gate, as CI servers show them.

A failed gate is a `<failure>`. An inconclusive one is an `<error>`: JUnit's word for a test that could not decide,
red as the exit code 3 is, yet told apart from a failure. `<skipped>` would be green, and a gate that measured too
little must not look as if it had passed.
"""

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from pipeline.results import GateResult, Report


def render_junit(report: Report) -> str:
    """The XML document of a report's own gates."""
    return render_suite(report.recipe, report.gates)


def render_suite(recipe: str, gates: Sequence[GateResult], notes: Sequence[str] = ()) -> str:
    """The XML document of any gates; it holds no time stamp, so the same gates give the same bytes.

    `notes` say what was not judged at all; they stand in the suite's output.
    """
    verdicts = [gate.verdict for gate in gates]
    suite = ET.Element(
        "testsuite",
        name=f"understudy.{recipe}",
        tests=str(len(verdicts)),
        failures=str(verdicts.count("fail")),
        errors=str(verdicts.count("inconclusive")),
        skipped="0",
    )
    for gate in gates:
        _add_case(suite, gate)
    if notes:
        ET.SubElement(suite, "system-out").text = "\n".join(notes)
    ET.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


def _add_case(suite: ET.Element, gate: GateResult) -> None:
    case = ET.SubElement(suite, "testcase", classname=f"{suite.get('name')}.gates", name=gate.name, time="0")
    if gate.verdict == "pass":
        ET.SubElement(case, "system-out").text = gate.reason
    else:
        kind = "failure" if gate.verdict == "fail" else "error"
        ET.SubElement(case, kind, type=gate.verdict, message=gate.reason)
