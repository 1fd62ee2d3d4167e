from __future__ import annotations

import stat
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from protocols.errors import StorageError
from site_client.show.page import render_page, write_page
from site_client.show.visible import visible

from .invented import HOSTILE, TOTALS, examples, hostile_examples

sys.path.insert(0, str(Path(__file__).parents[2]))
from browser import Page

HOSPITAL = "St. Anna & Sons"
PARTS = {"html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section", "article", "form"}
PARTS |= {"p", "h1", "h2", "h3", "h4", "div", "span", "strong", "code", "b", "i", "del", "ins", "ul", "li", "dl", "dt"}
PARTS |= {"dd", "table", "thead", "tbody", "tr", "th", "td", "fieldset", "legend", "label", "input", "select", "option"}


class Elements(HTMLParser):
    """Tags, attributes and text as a browser's parser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.comments: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


def page(shown=None, name: str = HOSPITAL) -> str:
    return render_page(examples() if shown is None else shown, name, TOTALS)


def test_equal_arguments_give_an_equal_page():
    assert page() == page()


def test_page_says_whose_text_it_is_and_that_it_stays():
    head = page().partition("</head>")[0]
    assert '<html lang="en">' in head
    assert '<meta name="robots" content="noindex' in head
    assert "default-src 'none'; style-src 'unsafe-inline'" in head
    assert "must not leave St. Anna &amp; Sons." in page()


def test_page_tells_counts_verdicts_and_reasons_in_plain_words():
    text = " ".join(" ".join(Elements(page()).texts).split())
    assert "2 passages of real notes and 3 rephrasings of them by 2 combinations of model and prompt" in text
    assert "plain rules-1 1,200 92 % soap large 3 0 %" in text
    assert "A number is missing, new or changed numbers" in text
    assert "It failed the check named of_tomorrow of_tomorrow" in text
    assert "cut off at the length limit" in text
    assert "Nothing was written." in text


def test_dropped_and_new_words_are_marked_and_dangerous_ones_stand_out():
    text = page()
    assert "<del><b>none</b></del>" in text
    assert "<ins><b>20</b></ins>" in text
    assert "<b>50</b> <b>mL</b>" in text
    assert '<ins class="minor">' in text


def test_hostile_text_is_text_and_nothing_else():
    text = render_page(hostile_examples(), HOSTILE, TOTALS)
    elements = Elements(text)
    assert set(elements.tags) <= PARTS
    assert elements.comments == []
    assert not [
        a for a in elements.attributes if a[0].startswith("on") or a[0] in {"src", "href", "action", "xlink:href"}
    ]
    assert "49" not in "".join(elements.texts).replace("U+2049", "")
    assert visible(HOSTILE) in "".join(elements.texts)
    for name, value in elements.attributes:
        assert "script" not in value, name


def test_hostile_text_reads_on_the_page_as_it_is():
    shown = "".join(Elements(render_page(hostile_examples(), HOSPITAL, TOTALS)).texts)
    assert shown.count(visible(HOSTILE)) >= 3  # heading, source, rephrasing


def test_page_is_for_its_owner_alone_and_replaced_whole(tmp_path):
    path = tmp_path / "corpus" / "show.html"
    write_page(examples(), path, HOSPITAL, TOTALS)
    path.chmod(0o644)
    write_page(examples()[:1], path, HOSPITAL, TOTALS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text(encoding="utf-8") == page(examples()[:1])
    assert [p.name for p in path.parent.iterdir()] == ["show.html"]


def test_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_page(examples(), tmp_path / "file" / "show.html", HOSPITAL, TOTALS)


def test_one_arm_needs_no_choice_of_arms():
    assert "<select" in page()
    assert "<select" not in page(examples()[1:])


# Contrast of every visible text with what is behind it, by the formula of WCAG 2.
CONTRAST = """
(() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = c.map(v => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c.slice(0, 3); }
    return [255, 255, 255]; };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !e.getClientRects().length) continue;
    const pair = [light(parse(getComputedStyle(e).color).slice(0, 3)), light(behind(e))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) found.push([e.tagName, e.className, walker.currentNode.data.slice(0, 30), ratio]);
  }
  return found;
})()
"""
COLUMNS = """
[...document.querySelectorAll('.texts')].map(t => [...t.children].map(c => c.getBoundingClientRect()))
  .map(([s, t]) => t.left >= s.right - 1 && Math.abs(t.top - s.top) < 1 ? 'beside'
     : t.top >= s.bottom - 1 && Math.abs(t.left - s.left) < 1 ? 'below' : 'neither')
"""
SHOWN = """
[...document.querySelectorAll('.pair')].filter(p => p.getClientRects().length)
  .map(p => p.querySelector('h3').innerText)
"""
MARKED = """
[...document.querySelectorAll('del, ins, .moved')].every(e => getComputedStyle(e).textDecorationLine != 'none')
"""
CASES = {"ordinary": examples(), "hostile": hostile_examples()}


@pytest.fixture(params=CASES)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    path = tmp_path / "show.html"
    name = HOSTILE if request.param == "hostile" else HOSPITAL
    write_page(CASES[request.param], path, name, TOTALS)
    return path.as_uri()


@pytest.mark.slow
def test_desktop_shows_source_and_rephrasing_side_by_side_without_network_or_noise(written):
    with Page(written, width=1280) as page:
        assert page.evaluate(COLUMNS) == ["beside"] * 3
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("document.scripts.length") == 0
        assert page.evaluate(MARKED)
        assert page.requests == [written]
        assert page.messages == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 390])
def test_phone_shows_the_rephrasing_below_its_source_and_never_scrolls_sideways(written, width):
    with Page(written, width=width) as page:
        assert page.evaluate("innerWidth") == width
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(COLUMNS) == ["below"] * 3
        assert page.requests == [written]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(written, scheme):
    with Page(written, width=1280) as page:
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(17, 23, 29)")
        assert page.evaluate(CONTRAST) == []


@pytest.mark.slow
def test_contrast_is_measured(tmp_path):
    """The control of the test above."""
    path = tmp_path / "faint.html"
    path.write_text("<!doctype html><p style='color: #888'>faint</p><p>clear</p>")
    with Page(path.as_uri(), width=800) as page:
        assert [found[2] for found in page.evaluate(CONTRAST)] == ["faint"]


@pytest.mark.slow
def test_choice_of_verdict_and_arm_hides_the_rest_without_a_script(tmp_path):
    path = tmp_path / "show.html"
    write_page(examples(), path, HOSPITAL, TOTALS)
    nothing = "getComputedStyle(document.querySelector('.none')).display"
    headings = "[...document.querySelectorAll('.example')].filter(e => e.getClientRects().length).length"
    with Page(path.as_uri(), width=1280) as page:
        assert page.evaluate(SHOWN) == ["plain by rules-1", "soap by large", "soap by large"]
        page.evaluate("document.querySelector('#show-rejected').click()")
        assert page.evaluate(SHOWN) == ["soap by large", "soap by large"]
        assert page.evaluate(headings) == 2
        page.evaluate("document.querySelector('select').value = '0'")
        assert page.evaluate(SHOWN) == []
        assert page.evaluate(headings) == 0
        assert page.evaluate(nothing) == "block"
        page.evaluate("document.querySelector('#show-all').click()")
        assert page.evaluate(SHOWN) == ["plain by rules-1"]
        assert page.evaluate(headings) == 1
        assert page.evaluate(nothing) == "none"


@pytest.mark.slow
def test_headings_go_down_one_level_at_a_time_and_controls_have_names(tmp_path):
    path = tmp_path / "show.html"
    write_page(examples(), path, HOSPITAL, TOTALS)
    with Page(path.as_uri(), width=1280) as page:
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(b - a <= 1 for a, b in pairwise(levels))
        nodes = page.call("Accessibility.getFullAXTree")["nodes"]
        roles = {"radio", "combobox", "form", "table"}
        named = [n for n in nodes if n.get("role", {}).get("value") in roles]
        assert len(named) == 6
        assert all(n.get("name", {}).get("value") for n in named)
