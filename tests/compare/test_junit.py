"""The checks as JUnit XML, parsed back."""

import math
import xml.etree.ElementTree as ET

import pytest

from compare.calibration import Calibration
from compare.check import Check
from compare.junit import junit, write_junit


def a_check(**values) -> Check:
    given = {"stage": "svm", "quantity": "objective", "item": "ours", "mode": "isolated", "value": 0.05, "allowed": 0.1,
             "bound": "<=", "agrees": True, "detail": "for class cat", "numbers": {}}  # fmt: skip
    return Check(**{**given, **values})


CHECKS = [
    a_check(),
    a_check(item="baseline_hr", value=0.5, agrees=False, detail="worst for class bird"),
    a_check(stage="metrics", quantity="map", allowed=None),
    a_check(mode="chained", value=math.nan, agrees=False, quantity="present", allowed=None, bound="", detail="missing"),
    a_check(mode="chained", calibration=Calibration(6.0, 1.0, {"x": 2.0}, 2.0, 3.0, 3.0)),
]


def parsed(checks, seconds=1.5) -> ET.Element:
    return ET.fromstring(junit(checks, seconds))


def test_there_is_a_case_for_every_check_and_the_counts_are_right():
    root = parsed(CHECKS)
    assert root.tag == "testsuites" and root.get("time") == "1.500"
    suites = {suite.get("name"): suite for suite in root}
    assert list(suites) == ["isolated.svm", "isolated.metrics", "chained.svm"]
    for element, tests, failures in ((root, 5, 2), (suites["isolated.svm"], 2, 1), (suites["isolated.metrics"], 1, 0),
                                     (suites["chained.svm"], 2, 1)):  # fmt: skip
        counted = len(element.findall(".//testcase")), len(element.findall(".//failure"))
        assert counted == (tests, failures) == (int(element.get("tests")), int(element.get("failures")))
    assert [(case.get("classname"), case.get("name")) for case in root.iter("testcase")] == [
        (f"{check.mode}.{check.stage}", f"{check.quantity} of {check.item}")
        for check in [*CHECKS[:2], CHECKS[2], *CHECKS[3:]]
    ]


def test_a_failure_says_what_a_reader_needs():
    failures = {failure.get("message"): failure for failure in parsed(CHECKS).iter("failure")}
    assert set(failures) == {"worst for class bird", "missing"}
    assert failures["worst for class bird"].get("type") == "objective"
    assert failures["worst for class bird"].text == "0.5, allowed <= 0.1; worst for class bird"
    assert failures["missing"].text.startswith("nan")


def test_what_agrees_tells_its_value_and_what_is_only_shown_says_so():
    told = [element.text for element in parsed(CHECKS).iter("system-out")]
    assert told == [
        "0.05, allowed <= 0.1; for class cat",
        "0.05, only shown; for class cat",
        "0.05, allowed <= 0.1, 3 of 3 floors; for class cat",
    ]


@pytest.mark.parametrize("agrees", [True, False])
@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('<a href="x">&amp;\'', '<a href="x">&amp;\''),
        ("]]>", "]]>"),
        ("grün ∞ 𝒳", "grün ∞ 𝒳"),
        ("\x00\x08\x0b\x1f", "\ufffd" * 4),
        ("\ud800 \ufffe \uffff", "\ufffd \ufffd \ufffd"),
        ("a\tb", "a\tb"),
        ("/runs/[bold]/x", "/runs/[bold]/x"),
    ],
)
def test_odd_characters_are_escaped_or_replaced(text, read, agrees):
    root = parsed([a_check(item=text, detail=text, agrees=agrees)])
    (case,) = root.iter("testcase")
    assert case.get("name") == f"objective of {read}"
    assert case[0].text.endswith(f"; {read}") and (agrees or case[0].get("message") == read)


def test_no_checks_are_a_document_too(tmp_path):
    write_junit(tmp_path / "out.xml", [], 0.0)
    root = ET.parse(tmp_path / "out.xml").getroot()
    assert (root.get("tests"), root.get("failures"), len(root)) == ("0", "0", 0)
    assert (tmp_path / "out.xml").read_bytes().startswith(b"<?xml")
