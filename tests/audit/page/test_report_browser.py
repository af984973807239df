"""The report in a real Chromium: it asks for nothing, says nothing to the console, and can be used by keyboard.

Leaves report/screenshot-<width>.png of the toy runs' page.
"""

import base64
import csv
import json
import shutil
import struct
import time
from pathlib import Path

import pytest

from experiment.artifacts import read_json
from tests.audit.page.report_run import CLASSES, SCRIPT

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: `make setup`")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM, CHROMEDRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="Chromium is not there: install Debian's chromium and chromium-driver"
)
WIDTHS = (360, 1920)
SCREENSHOTS = Path(__file__).parents[3] / "report"
TABLE = "blobs-features-2-embedded-departs"
# WCAG 2.1, success criterion 1.4.3, by the colours that the browser computed. An element counts that holds text itself;
# its background is that of the nearest element that has one.
CONTRASTS = """
const channels = (color) => color.match(/[0-9.]+/g).map(Number);
const luminance = (color) => {
  const [r, g, b] = channels(color).slice(0, 3).map((c) => c / 255).map(
    (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = getComputedStyle(at).backgroundColor, alpha = channels(color)[3];
    if (alpha === undefined || alpha === 1) return color;
  }
  return "rgb(255, 255, 255)";
};
const found = {};
for (const element of document.querySelectorAll("body, body *")) {
  if (["SCRIPT", "STYLE"].includes(element.tagName)) continue;
  const own = Array.from(element.childNodes).some((node) => node.nodeType === 3 && node.data.trim());
  if (!own) continue;
  const style = getComputedStyle(element);
  const color = element.tagName === "text" ? style.fill : style.color;
  const [light, dark] = [luminance(color), luminance(behind(element))].sort((a, b) => b - a);
  const ratio = (light + 0.05) / (dark + 0.05);
  const key = `${element.tagName} ${element.getAttribute("class")} ${color} on ${behind(element)}`;
  found[key] = Math.min(found[key] ?? ratio, ratio);
}
return found;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium that keeps its console and its network log."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1920,1080"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def file(tmp_path_factory, html):
    path = tmp_path_factory.mktemp("a page's folder") / "index.html"
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture
def page(browser, file):
    """The page, newly opened at 1920 pixels, light."""
    show(browser, 1920)
    browser.get("about:blank")
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(file.as_uri())
    return browser


def show(browser, width: int, scheme: str = "light", media: str = "screen") -> None:
    """Give the window a width in CSS pixels, and say what the user prefers."""
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def requested(browser) -> list[str]:
    """The addresses that were asked for since the log was last read, data: ones left out."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith("data:")]


def rows(browser, table: str = TABLE) -> list[list[str]]:
    """The rows of a table that are shown: whole numbers, or texts."""
    return browser.execute_script(
        "return Array.from(document.querySelectorAll(`#${arguments[0]} tbody tr`)).filter((row) => !row.hidden)"
        ".map((row) => Array.from(row.cells, (cell) => cell.dataset.value ?? cell.textContent))",
        table,
    )


def header(browser, name: str, table: str = TABLE):
    """A column's head and its button."""
    for head in browser.find_elements(By.CSS_SELECTOR, f"#{table} th"):
        if head.text.startswith(name):
            return head, head.find_element(By.TAG_NAME, "button")
    raise AssertionError(f"{table} has no column {name}")


def test_it_asks_for_nothing_and_the_console_is_silent(page, file):
    header(page, "blob")[1].click()
    page.find_element(By.ID, "theme").click()
    for summary in page.find_elements(By.CSS_SELECTOR, "main summary"):
        summary.click()
    show(page, 360, "dark")
    page.find_element(By.CSS_SELECTOR, f"#{TABLE} input").send_keys("conv")
    time.sleep(0.5)
    assert requested(page) == [file.as_uri()]
    assert page.get_log("browser") == []
    assert page.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)") == []


def test_every_link_leads_to_what_is_there(page):
    missing = page.execute_script(
        "return Array.from(document.querySelectorAll('a[href^=\"#\"]'), (a) => a.hash.slice(1))"
        ".filter((id) => !document.getElementById(decodeURIComponent(id)))"
    )
    assert missing == []
    link = page.find_element(By.CSS_SELECTOR, "#claim-ledger a[href='#table1']")
    link.click()
    top = "return document.getElementById('table1').getBoundingClientRect().top"
    assert 0 <= page.execute_script(top) < 200


def test_layers_are_sorted_by_number(page, reported):
    checks = read_json(reported.departs / "compare.json")["checks"]
    values = [
        c["value"]
        for c in checks
        if c["stage"] == "features" and c["item"].startswith("blob ") and c["mode"] == "isolated"
    ]
    assert sorted(map(repr, values)) != [repr(value) for value in sorted(values)]  # an order by text is another one
    head, button = header(page, "isolated")
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert [float(row[3]) for row in rows(page)] == sorted(values)
    button.click()
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(row[3]) for row in rows(page)] == sorted(values, reverse=True)
    header(page, "#")[1].click()
    assert head.get_attribute("aria-sort") == "none"
    assert [int(row[0]) for row in rows(page)] == list(range(12))


def test_layers_are_filtered_by_their_names(page):
    field = page.find_element(By.CSS_SELECTOR, f"#{TABLE} input")
    field.send_keys("CONV1")
    assert [row[1] for row in rows(page)] == ["conv1", "conv10"]
    assert page.find_element(By.CSS_SELECTOR, f"#{TABLE} output").text == "2 of 12 rows"
    header(page, "#")[1].click()
    header(page, "#")[1].click()
    assert [row[1] for row in rows(page)] == ["conv10", "conv1"]
    field.clear()
    field.send_keys(" ", Keys.BACKSPACE)
    assert len(rows(page)) == 12
    field.send_keys("no such blob")
    assert rows(page) == []


def test_the_keyboard_reaches_a_sort_button_and_sorts(page):
    _, button = header(page, "#")
    page.find_element(By.CSS_SELECTOR, f"#{TABLE} input").click()
    for _ in range(3):  # the CSV, the table's own scrolling, the first head
        page.switch_to.active_element.send_keys(Keys.TAB)
    assert page.switch_to.active_element == button
    outline = page.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    button.send_keys(Keys.ENTER)
    button.send_keys(Keys.SPACE)
    assert [int(row[0]) for row in rows(page)] == list(range(11, -1, -1))


def test_the_first_tab_offers_to_skip_the_contents(page):
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    link = page.switch_to.active_element
    assert link.text == "Skip to the verdict" and link.rect["x"] >= 0
    link.send_keys(Keys.ENTER)
    assert page.execute_script("return document.activeElement.id") == "verdict"


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_never_scrolls_sideways(page, width):
    show(page, width)
    page.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    wide, room = page.execute_script(
        "const root = document.documentElement; return [root.scrollWidth, root.clientWidth]"
    )
    assert wide <= room
    outside = page.execute_script(
        "return Array.from(document.querySelectorAll('main *')).filter((one) => !one.closest('.scroll, pre, .hidden')"
        " && one.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map((one) => one.outerHTML)"
    )
    assert outside == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(page, width, scheme):
    show(page, width, scheme)
    found = page.execute_script(CONTRASTS)
    assert len(found) > 20
    assert {name: ratio for name, ratio in found.items() if ratio < 4.5} == {}


def test_the_button_changes_from_light_to_dark_and_back(page):
    background = "return getComputedStyle(document.body).backgroundColor"
    button = page.find_element(By.ID, "theme")
    light = page.execute_script(background)
    ink = "return getComputedStyle(document.querySelector('figure svg text')).fill"
    inks = [page.execute_script(ink)]
    button.click()
    dark = page.execute_script(background)
    inks.append(page.execute_script(ink))
    assert button.get_attribute("aria-pressed") == "true" and dark != light and inks[0] != inks[1]
    assert min(page.execute_script(CONTRASTS).values()) >= 4.5
    button.click()
    assert page.execute_script(background) == light
    show(page, 1920, "dark")
    page.refresh()
    assert page.execute_script(background) == dark
    page.find_element(By.ID, "theme").click()
    assert page.execute_script(background) == light


def test_a_downloaded_csv_is_the_table(page, tmp_path):
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    for table in (TABLE, "ap"):
        page.find_element(By.CSS_SELECTOR, f"#{table} a.csv").click()
        path = tmp_path / f"{table}.csv"
        for _ in range(100):
            if path.is_file() and path.stat().st_size:
                break
            time.sleep(0.1)
        head, *lines = csv.reader(path.read_text(encoding="utf-8").splitlines())
        shown = rows(page, table)
        assert len(head) == len(shown[0])
        told = [[text.replace("=1+1", "'=1+1").replace("-", "") if text in ("-", "=1+1") else text for text in row]
                for row in shown]  # fmt: skip
        assert lines == told


def test_a_class_that_is_a_script_is_a_text(page):
    names = [row[0] for row in rows(page, "ap")]
    assert names == [*CLASSES, "mAP"]
    assert page.execute_script("return document.scripts.length") == 1
    labels = page.execute_script(
        "return Array.from(document.querySelectorAll('#per-class text'), (text) => text.textContent.trim())"
    )
    assert SCRIPT in labels


def test_print_has_the_tables_whole_and_no_controls(page):
    show(page, 1920, "dark", "print")
    hidden = "return getComputedStyle(document.querySelector(arguments[0])).display"
    assert [page.execute_script(hidden, name) for name in ("nav", "#theme", "a.csv")] == ["none"] * 3
    assert page.execute_script("return getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    colours = "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
    assert page.execute_script(colours) == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    page.execute_script("document.documentElement.dataset.theme = 'dark'")
    assert page.execute_script(colours) == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]


@pytest.mark.parametrize("width", WIDTHS)
def test_screenshots_are_kept(page, width):
    show(page, width)
    page.refresh()
    height = min(page.execute_script("return document.documentElement.scrollHeight"), 12000)
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    taken = page.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    content = base64.b64decode(taken["data"])
    assert struct.unpack(">II", content[16:24]) == (width, height)
    SCREENSHOTS.mkdir(exist_ok=True)
    (SCREENSHOTS / f"screenshot-{width}.png").write_bytes(content)
