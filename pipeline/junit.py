"""`junit.xml`: one test case a gate, as CI servers show them.

A failed gate is a `<failure>`. An inconclusive one is an `<error>`: JUnit's word for a test that could not decide,
red as the exit code 3 is, yet told apart from a failure. `<skipped>` would be green, and a gate that measured too
little must not look as if it had passed.
"""

from xml.etree import ElementTree as ET

from pipeline.results import GateResult, Report


def render_junit(report: Report) -> str:
    """The XML document; it holds no time stamp, so the same report gives the same bytes."""
    verdicts = [gate.verdict for gate in report.gates]
    suite = ET.Element(
        "testsuite",
        name=f"understudy.{report.recipe}",
        tests=str(len(verdicts)),
        failures=str(verdicts.count("fail")),
        errors=str(verdicts.count("inconclusive")),
        skipped="0",
    )
    for gate in report.gates:
        _add_case(suite, gate)
    ET.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


def _add_case(suite: ET.Element, gate: GateResult) -> None:
    case = ET.SubElement(suite, "testcase", classname=f"{suite.get('name')}.gates", name=gate.name, time="0")
    if gate.verdict == "pass":
        ET.SubElement(case, "system-out").text = gate.reason
    else:
        kind = "failure" if gate.verdict == "fail" else "error"
        ET.SubElement(case, kind, type=gate.verdict, message=gate.reason)
