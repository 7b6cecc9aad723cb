"""The status page in Chromium: contrast, keyboard, screen reader, phone, hostile texts, and how it refreshes itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from tests.browser import Browser, BrowserError, NoBrowser, start
from tests.status import examples
from tests.status.server import Server
from usp_s3_wsgi.status.snapshot import Health, Snapshot

SCHEMES = ("light", "dark")
#: Opens all details.
OPEN_ALL = "document.querySelectorAll('details').forEach((details) => { details.open = true; })"
#: The texts with less contrast than WCAG 2 asks of normal text at level AA, with their colours.
#: https://www.w3.org/TR/WCAG22/#contrast-minimum
LOW_CONTRAST = """(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const background = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length === 3) return color;
    }
    throw new Error("no background");
  };
  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let texts = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest("script, noscript")) continue;
    texts += 1;
    const style = getComputedStyle(element);
    const pair = [light(parse(style.color)), light(background(element))].sort((one, other) => other - one);
    const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (contrast < 4.5 || style.opacity !== "1") found.add(`${contrast.toFixed(2)}: ${walker.currentNode.data.trim()}`);
  }
  return [texts, [...found]];
})()"""
#: What can have the focus of the keyboard, in the order of the page.
INTERACTIVE = """[...document.querySelectorAll('a[href], button, input, summary')]
  .filter((element) => element.checkVisibility({ visibilityProperty: true })).length"""
#: The element with the focus, once: whether it was seen before, and whether its focus shows.
FOCUSED = """(() => {
  const element = document.activeElement;
  if (element === document.body || element.dataset.seen) return null;
  element.dataset.seen = "yes";
  const style = getComputedStyle(element), box = element.getBoundingClientRect();
  return {
    name: element.outerHTML.slice(0, 90),
    outline: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    inside: box.width > 0 && box.left >= 0 && box.right <= innerWidth && box.bottom > 0 && box.top < innerHeight,
  };
})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with start() as started:
            started.version()
            yield started
    except NoBrowser as error:
        pytest.skip(f"{error} (make test-status installs one)")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(examples.night()) as started:
        yield started


def visit(browser: Browser, url: str, *, width: int = 1280, scheme: str = "light") -> None:
    """Open a page, and record what it writes to the console and what its policy forbids."""
    browser.open("about:blank")
    browser.events.clear()
    for domain in ("Runtime", "Log", "Page", "Network"):
        browser.call(f"{domain}.enable")
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.call("Page.navigate", url=url)
    browser.wait_until(f"document.readyState === 'complete' && location.href.startsWith({url.split('#')[0]!r})")


def complaints(browser: Browser) -> list[Any]:
    """What the browser has reported: messages of the console, exceptions, violations of the policy."""
    browser.evaluate("0")  # what is older arrives before
    methods = {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}
    return [event["params"] for event in browser.events if event.get("method") in methods]


def refresh(browser: Browser) -> None:
    """Let the page refresh itself at once, as after a pause."""
    browser.evaluate(
        "window.requests = performance.getEntriesByType('resource').length,"
        "document.getElementById('pause').click(), document.getElementById('pause').click()"
    )
    browser.wait_until("performance.getEntriesByType('resource').length > window.requests")
    browser.evaluate("new Promise((resolve) => setTimeout(resolve, 150))")


def failing_page(server: Server) -> str:
    """The URL of the details of a failure."""
    bucket = server.snapshot.buckets[0]
    return f"{server.url}/failures/{bucket.id}/{bucket.failures[0].id}"


def urls(server: Server) -> list[str]:
    return [server.url, failing_page(server), f"{server.url}/errors", f"{server.url}/none"]


def better(snapshot: Snapshot) -> Snapshot:
    """The snapshot ten seconds later, after the first bucket was repaired: it is the last one in the list now."""
    first, *others = snapshot.buckets
    repaired = replace(first, health=Health.OK, summary="", failures=())
    return replace(snapshot, time=snapshot.time + 10, buckets=(*others, repaired))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_text_has_enough_contrast(browser: Browser, server: Server, scheme: str) -> None:
    backgrounds = set()
    for url in urls(server):
        visit(browser, url, scheme=scheme)
        browser.evaluate(OPEN_ALL)
        browser.evaluate("document.getElementById('notice')?.toggleAttribute('hidden', false)")
        texts, found = browser.evaluate(LOW_CONTRAST)
        assert texts >= 7 and found == []
        backgrounds.add(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert complaints(browser) == [] or url.endswith("/none")
    (background,) = backgrounds
    assert (sum(map(int, background[4:-1].split(","))) > 384) is (scheme == "light")


@pytest.mark.parametrize("snapshot", ["night", "hostile", "many"])
def test_nothing_scrolls_sideways_on_a_phone(browser: Browser, snapshot: str) -> None:
    with Server(getattr(examples, snapshot)()) as server:
        for url in urls(server):
            visit(browser, url, width=360)
            browser.evaluate(OPEN_ALL)
            widest = browser.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)")
            assert widest <= 360, url


def test_hostile_texts_are_only_shown(browser: Browser) -> None:
    with Server(examples.hostile()) as server:
        for index, bucket in enumerate(server.snapshot.buckets):
            pages = [f"{server.url}/failures/{bucket.id}/{bucket.failures[0].id}"]
            for url in [server.url, *pages] if index == 0 else pages:
                visit(browser, url)
                assert complaints(browser) == []
                assert browser.evaluate("document.querySelectorAll('script').length") == 1
                assert (
                    browser.evaluate(
                        "document.querySelectorAll('img, iframe, object, [onerror], [onmouseover]').length"
                    )
                    == 0
                )
                assert "executed" not in browser.evaluate("document.title").split(" of ")[0]
        visit(browser, server.url)
        browser.evaluate(OPEN_ALL)
        text = browser.evaluate("document.getElementById('list').innerText")
        for shown in (
            examples.HOSTILE[0],
            "a\\u{202e}gnp.exe\\u{2066}\\u{200f}",
            "nul\\u{0} esc\\u{1b}[31m",
            "{{ 7 * 7 }}",
        ):
            assert shown in text
        assert not {"\u202e", "\u2066", "\x00", "\x1b"} & set(text)


@pytest.mark.parametrize("width", [1280, 360])
def test_the_keyboard_reaches_everything(browser: Browser, server: Server, width: int) -> None:
    for url in urls(server):
        visit(browser, url, width=width)
        expected = browser.evaluate(INTERACTIVE)
        names = []
        for _ in range(expected + 5):
            for kind in ("keyDown", "keyUp"):
                browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
            browser.evaluate("new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 5)))")
            focused = browser.evaluate(FOCUSED)
            if focused is None:
                break
            names.append(focused["name"])
            if len(names) > 1:  # the link to the content slides into the page
                assert focused["outline"] and focused["inside"], focused
        assert 'class="skip"' in names[0]
        assert len(names) == expected, names[-3:]


def test_the_skip_link_leads_to_the_content(browser: Browser, server: Server) -> None:
    visit(browser, server.url)
    browser.evaluate("document.querySelector('.skip').click()")
    assert browser.evaluate("document.activeElement.id") == "main"


def test_what_a_screen_reader_says(browser: Browser, server: Server) -> None:
    visit(browser, server.url)
    nodes = [node for node in browser.call("Accessibility.getFullAXTree")["nodes"] if not node.get("ignored")]
    by_role: dict[str, list[str]] = {}
    for node in nodes:
        by_role.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    images = [*by_role.get("image", []), *by_role.get("img", [])]
    assert len(images) == 2 * len(server.snapshot.buckets)
    assert images[0].startswith(
        "14,394 exchanges in the last hour: 3,154 failed, 27 client errors. At most 303 in a minute"
    )
    assert images[0].endswith("Failures from 02:00 to 02:13 UTC.")
    assert images[1].startswith("First byte in the last hour: 42 ms on average")
    assert len(by_role["main"]) == 1 and by_role["navigation"] == ["Pages"]
    assert {"banner", "contentinfo", "status"} <= set(by_role)
    assert by_role["region"] == [
        "What is wrong, and what to do", "Buckets", "Last failures", "Temporary credentials", "This server"
    ]  # fmt: skip
    assert by_role["article"] == ["vod-archive", "thumbnails", "live-origin"]
    assert all(by_role["button"]) and all(by_role["link"]) and by_role["searchbox"] == ["Filter"]
    assert "The last failures that no client has caused, the latest first" in by_role["table"]
    assert "Temporary credentials of roles and AWS identities" in by_role["table"]
    levels = browser.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(following <= level + 1 for level, following in pairwise(levels))


def test_tables_keep_their_meaning_on_a_phone(browser: Browser, server: Server) -> None:
    """There they are stacked, for which some browsers take them for no tables."""
    visit(browser, failing_page(server), width=360)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles = {node["role"]["value"] for node in nodes if not node.get("ignored")}
    assert {"table", "row", "cell", "columnheader", "rowheader"} <= roles


def test_a_refresh_keeps_what_the_operator_does(browser: Browser, server: Server) -> None:
    visit(browser, server.url)
    target, other = server.snapshot.buckets[0].id, server.snapshot.buckets[3].id
    browser.evaluate(
        f"document.getElementById('d-{target}').open = true, document.getElementById('d-{other}').open = true,"
        f"document.querySelector('#d-{target} > summary').focus(), scrollTo(0, 700),"
        f"getSelection().selectAllChildren(document.querySelector('#b-{other} h3'))"
    )
    assert browser.evaluate("document.querySelector('#list > li').id") == f"b-{target}"
    server.snapshot = better(server.snapshot)
    refresh(browser)
    assert browser.evaluate("document.getElementById('sentence').textContent") == "1 of 7 buckets is failing"
    assert browser.evaluate("document.title").startswith("1 of 7 buckets is failing")
    assert browser.evaluate("document.getElementById('announcement').textContent") == "1 of 7 buckets is failing"
    assert browser.evaluate("document.getElementById('updated').textContent") == "02:13:30 UTC"
    assert browser.evaluate("document.querySelector('#list > li:last-child').id") == f"b-{target}"
    assert browser.evaluate(f"document.querySelector('#b-{target} .badge').textContent") == "OK"
    assert browser.evaluate("[...document.querySelectorAll('details[open]')].map((d) => d.id).sort()") == sorted(
        [f"d-{target}", f"d-{other}"]
    )
    assert browser.evaluate(f"document.activeElement === document.querySelector('#d-{target} > summary')")
    assert browser.evaluate("getSelection().toString()") == "packaged-hls"
    browser.evaluate("scrollTo(0, 300)")
    refresh(browser)
    assert browser.evaluate("scrollY") == 300
    # The state is the same as before: nothing is announced a second time.
    browser.evaluate("document.getElementById('announcement').textContent = ''")
    refresh(browser)
    assert browser.evaluate("document.getElementById('announcement').textContent") == ""
    fresh = browser.evaluate("document.getElementById('main').cloneNode(true).innerHTML.replaceAll(' open=\"\"', '')")
    visit(browser, server.url)
    assert browser.evaluate("document.getElementById('main').innerHTML") == fresh
    assert complaints(browser) == []


def test_it_refreshes_by_itself(browser: Browser, server: Server) -> None:
    visit(browser, server.url)
    server.snapshot = better(server.snapshot)
    browser.wait_until("document.getElementById('updated').textContent === '02:13:30 UTC'", 20)


def test_a_pause(browser: Browser, server: Server) -> None:
    visit(browser, server.url)
    browser.evaluate("document.getElementById('pause').click()")
    assert browser.evaluate("document.getElementById('pause').textContent") == "Resume"
    server.snapshot = better(server.snapshot)
    browser.evaluate("new Promise((resolve) => setTimeout(resolve, 11000))")
    assert browser.evaluate("document.getElementById('updated').textContent") == "02:13:20 UTC"
    browser.evaluate("document.getElementById('pause').click()")
    browser.wait_until("document.getElementById('updated').textContent === '02:13:30 UTC'")


def test_a_server_that_fails_is_said(browser: Browser, server: Server) -> None:
    visit(browser, server.url)
    assert not browser.evaluate("document.getElementById('notice').checkVisibility()")
    server.fails_with = 503
    refresh(browser)
    notice = browser.evaluate("document.getElementById('notice').innerText")
    assert notice == "Last update 02:13:20 UTC, the server answers with status 503. Trying again every 10 s."
    assert browser.evaluate("document.getElementById('sentence').textContent") == "2 of 7 buckets are failing"
    server.fails_with = 200
    refresh(browser)
    assert "the server sends another page" in browser.evaluate("document.getElementById('notice').innerText")
    server.fails_with = 0
    refresh(browser)
    assert not browser.evaluate("document.getElementById('notice').checkVisibility()")


def test_a_server_that_is_gone_is_said(browser: Browser) -> None:
    with Server(examples.night()) as server:
        visit(browser, server.url)
    browser.evaluate("document.getElementById('pause').click(), document.getElementById('pause').click()")
    browser.wait_until("document.getElementById('notice').checkVisibility()")
    notice = browser.evaluate("document.getElementById('notice').innerText")
    assert notice.startswith("Last update 02:13:20 UTC, the server does not answer.")


def test_the_filter(browser: Browser, server: Server) -> None:
    visit(browser, server.url)
    browser.evaluate(
        "const input = document.getElementById('filter'); input.value = 'gateway EXAMPLE.net';"
        "input.dispatchEvent(new Event('input', { bubbles: true }))"
    )
    shown = "[...document.querySelectorAll('.bucket')].filter((b) => b.checkVisibility()).map((b) => b.id)"
    assert browser.evaluate(shown) == ["b-gateway-thumbnails", "b-gateway-packaged-hls"]
    assert browser.evaluate("document.getElementById('matches').textContent") == "2 of 7"
    server.snapshot = better(server.snapshot)
    refresh(browser)
    assert browser.evaluate("document.getElementById('filter').value") == "gateway EXAMPLE.net"
    assert browser.evaluate(shown) == ["b-gateway-thumbnails", "b-gateway-packaged-hls"]


def test_a_request_id_is_copied(browser: Browser, server: Server) -> None:
    visit(browser, server.url)
    browser.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    browser.evaluate("document.querySelector('.copy').click()")
    browser.wait_until("document.querySelector('.copy').textContent !== 'Copy'")
    assert browser.evaluate("document.querySelector('.copy').textContent") in {"Copied", "Press Ctrl+C"}


def test_without_scripts(browser: Browser, server: Server) -> None:
    """Nothing is offered that needs them, and the page reloads itself."""
    browser.open("about:blank")
    browser.call("Page.enable")
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.call("Page.navigate", url=server.url)
    browser.wait_until("document.readyState === 'complete' && location.href.startsWith('http')")
    assert not browser.evaluate(
        "[...document.querySelectorAll('#pause, #filter, .copy')].some((e) => e.checkVisibility())"
    )
    assert browser.evaluate("document.querySelector('noscript meta')?.httpEquiv") == "refresh"
    assert "Reloads every 10 s" in browser.evaluate("document.querySelector('.refresh').innerText")


def test_motion_is_reduced(browser: Browser, server: Server) -> None:
    visit(browser, server.url)
    duration = "getComputedStyle(document.querySelector('.skip')).transitionDuration"
    assert browser.evaluate(duration) != "0s"
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    assert browser.evaluate(duration) == "0s"
    with pytest.raises(BrowserError, match="planted"):
        browser.evaluate("Promise.reject(new Error('planted'))")
