"""The checks as JUnit XML, which continuous-integration servers show: a suite a mode and stage, a case a check."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from compare.check import Check

NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(checks: Sequence[Check], seconds: float) -> bytes:
    """The document, UTF-8. A check that fails is a failure; one that is only shown passes and says so."""
    suites: dict[tuple[str, str], list[Check]] = {}
    for check in checks:
        suites.setdefault((check.mode, check.stage), []).append(check)
    root = ET.Element("testsuites", {"name": "udft-audit", **counts(checks), "time": f"{seconds:.3f}"})
    for (mode, stage), members in suites.items():
        suite = ET.SubElement(root, "testsuite", {"name": f"{mode}.{stage}", **counts(members)})
        for check in members:
            case = ET.SubElement(
                suite, "testcase", classname=f"{mode}.{stage}", name=text(f"{check.quantity} of {check.item}")
            )
            if not check.agrees:
                ET.SubElement(case, "failure", message=text(check.detail), type=check.quantity).text = text(told(check))
            else:
                ET.SubElement(case, "system-out").text = text(told(check))
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)


def counts(checks: Sequence[Check]) -> dict[str, str]:
    """The attributes that count cases."""
    failures = sum(not check.agrees for check in checks)
    return {"tests": str(len(checks)), "failures": str(failures), "errors": "0"}


def told(check: Check) -> str:
    """A check in one line: value, bound, floors, detail."""
    allowed = "only shown" if check.allowed is None else f"allowed {check.bound} {check.allowed:g}"
    floors = "" if check.calibration is None else f", {check.calibration.ratio:.3g} of {check.calibration.k:g} floors"
    return f"{check.value:.6g}, {allowed}{floors}; {check.detail}"


def text(value: str) -> str:
    """A text without the characters that XML cannot hold."""
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", value)


def write_junit(path: Path, checks: Sequence[Check], seconds: float) -> None:
    """Write the document to a file."""
    path.write_bytes(junit(checks, seconds))
