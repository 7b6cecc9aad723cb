"""The status page: hostile values, sizes, links, and the words and charts of an operator's night."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.status import examples, screenshots
from tests.status.examples import BASE, EXPLANATIONS, NOW
from usp_s3_wsgi.status import charts, comparison, page, routes, words
from usp_s3_wsgi.status.snapshot import Explanation, Health, Identity, Minute, Snapshot

#: Elements of HTML without an end tag, and those of our pages that SVG closes in their start tag.
VOID = {"meta", "link", "input", "br"}
#: The attributes that our pages may have. No on..., no style.
ATTRIBUTES = set(
    "aria-hidden aria-label aria-labelledby aria-live autocomplete charset class content cx cy d data-build data-label "
    "data-refresh data-time datetime fill focusable for height hidden href http-equiv id lang name patternunits "
    "placeholder preserveaspectratio r rel role scope spellcheck tabindex type viewbox width".split()
)


class Page(HTMLParser):
    """A page that was parsed: its elements, ids and texts. An AssertionError if it is not well-formed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)) and set(names) <= ATTRIBUTES, attrs
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, (tag, self._open, self.getpos())

    def handle_data(self, data: str) -> None:
        found = {"script": self.scripts, "style": self.styles}.get(self._open[-1] if self._open else "", self.texts)
        found.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    @property
    def text(self) -> str:
        """All texts, with single spaces."""
        return " ".join("".join(self.texts).split())

    def values(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(attribute)) is not None]


def pages(snapshot: Snapshot) -> list[str]:
    """All pages of a snapshot."""
    return [
        page.render(snapshot, BASE),
        *(page.render_failure(bucket, failure, BASE) for bucket in snapshot.buckets for failure in bucket.failures),
        page.render_errors(EXPLANATIONS.values(), BASE),
        page.render_not_found(BASE),
    ]


@pytest.mark.parametrize("build", [examples.night, examples.quiet, examples.empty, examples.hostile])
def test_pages_are_well_formed_and_load_nothing(build: Callable[[], Snapshot]) -> None:
    snapshot = build()
    for text in pages(snapshot):
        parsed = Page(text)
        ids = parsed.values("id")
        assert len(ids) == len(set(ids))
        assert all(name in ids for value in parsed.values("aria-labelledby") for name in value.split())
        assert parsed.values("src") == [] and len(parsed.scripts) == len(parsed.styles) == 1
        assert [tag for tag, _ in parsed.elements if tag in {"img", "iframe", "object", "embed", "form", "base"}] == []


@pytest.mark.parametrize("build", [examples.night, examples.hostile, examples.empty])
@pytest.mark.parametrize("base", [BASE, "/", "", "/a b/ü", "//evil.example/x"])
def test_each_link_leads_to_a_page_or_to_an_id(build: Callable[[], Snapshot], base: str) -> None:
    snapshot = build()
    known = {(bucket.id, failure.id) for bucket in snapshot.buckets for failure in bucket.failures}
    status = page.render(snapshot, base)
    anchors = {"status": set(Page(status).values("id")), "errors": set(EXPLANATIONS), "failure": set()}
    first = [page.render_failure(bucket, bucket.failures[0], base) for bucket in snapshot.buckets if bucket.failures]
    for text in [status, *first, page.render_errors(EXPLANATIONS.values(), base), page.render_not_found(base)]:
        parsed = Page(text)
        for tag, attributes in parsed.elements:
            href = attributes.get("href")
            if href is None or (tag == "link" and href.startswith("data:image/svg+xml,")):
                continue
            path, _, anchor = href.partition("#")
            if not path:
                assert anchor in parsed.values("id"), href
                continue
            assert path.startswith("/") and not path.startswith("//"), href
            mount = routes.status(base)
            assert path.startswith(mount)
            route = routes.find(unquote(path[len(mount.rstrip("/")) :]))
            assert route is not None, href
            assert route.page != "failure" or (route.bucket, route.failure) in known
            assert not anchor or anchor in anchors[route.page], href


@pytest.mark.parametrize(
    "path", ["/x", "/errors/", "/failures", "/failures/a", "/failures/a/", "/failures//b", "/failures/a/b/c", "x", "//"]
)
def test_other_paths_are_no_pages(path: str) -> None:
    assert routes.find(path) is None


def test_hostile_values_are_only_texts() -> None:
    snapshot = examples.hostile()
    own = {text for build in (examples.night, examples.empty) for text in Page(page.render(build(), BASE)).scripts}
    for text in pages(snapshot):
        text.encode()  # no lone surrogates
        assert words.visible(text.replace("\n", "")) == text.replace("\n", "")
        parsed = Page(text)
        assert set(parsed.scripts) == own
    failure = snapshot.buckets[0].failures[0]
    shown = Page(page.render_failure(snapshot.buckets[0], failure, BASE)).text
    assert shown.count(examples.HOSTILE[0]) > 10
    assert "{{ 7 * 7 }}{% raw %}" in Page(page.render(snapshot, BASE)).text


@pytest.mark.parametrize("field", ["id", "error"])
def test_hostile_ids_stay_in_their_links(field: str) -> None:
    snapshot = examples.night()
    bucket = snapshot.buckets[0]
    text = "\"><script>/../'#?&%"
    failure = replace(bucket.failures[0], id=text) if field == "id" else replace(bucket.failures[0], error=text)
    hostile = replace(bucket, failures=(failure,))
    for text in (
        page.render(replace(snapshot, buckets=(hostile,)), BASE),
        page.render_failure(hostile, failure, BASE),
        page.render_errors([Explanation("\"><script>x' y", "<b>", "<b>", "<b>")], BASE),
    ):
        parsed = Page(text)
        assert len(parsed.scripts) == 1
        assert all(set(href) <= set(page_characters()) for href in parsed.values("href") if href.startswith(BASE))


def page_characters() -> str:
    """What a URL may have after its path was encoded."""
    return "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/%#-._~"


@pytest.mark.parametrize("count", [60, 300])
def test_the_size_is_limited(count: int) -> None:
    text = page.render(examples.many(count), BASE)
    assert len(text.encode()) <= page.MAX_BYTES
    parsed = Page(text)
    assert sum(value.startswith("b-") for value in parsed.values("id")) == count
    assert parsed.values("role").count("img") >= min(count, 150) * 2
    assert "12 more buckets are configured and not shown" in parsed.text


def test_the_size_is_limited_for_hostile_texts() -> None:
    snapshot = examples.hostile()
    text = "\U0001f4a9\"'" * 5000
    bucket = replace(
        snapshot.buckets[0], summary=text, identity=text, name=text, host=text,
        mounts=snapshot.buckets[0].mounts * 40, failures=(examples.hostile_failure(text),) * 40,
    )  # fmt: skip
    buckets = tuple(replace(bucket, id=f"b{number}") for number in range(300))
    identities = tuple(Identity(text, NOW, NOW, NOW, 1, 1, True) for _ in range(100))
    # Not in the assertion: pytest would print the snapshot.
    size = len(page.render(replace(snapshot, buckets=buckets, identities=identities), BASE).encode())
    assert size <= page.MAX_BYTES
    size = len(page.render_failure(bucket, bucket.failures[0], BASE).encode())
    assert size <= page.MAX_BYTES


def test_all_of_few_buckets_is_shown() -> None:
    snapshot = examples.many(20)
    parsed = Page(page.render(snapshot, BASE))
    assert sum(value.startswith("s-") for value in parsed.values("id")) == 20 * 3
    assert "To keep this page small" not in parsed.text


def test_the_policy_allows_our_script_and_style_only() -> None:
    parsed = Page(page.render(examples.night(), BASE))
    for name, source in (("script", parsed.scripts[0]), ("style", parsed.styles[0])):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}';" in page.CONTENT_SECURITY_POLICY
    assert page.CONTENT_SECURITY_POLICY.startswith("default-src 'none'; ")
    assert "connect-src 'self'" in page.CONTENT_SECURITY_POLICY and "unsafe" not in page.CONTENT_SECURITY_POLICY


def test_what_is_wrong_is_said_first() -> None:
    snapshot = examples.night()
    parsed = Page(page.render(snapshot, BASE))
    failing, throttled = snapshot.buckets[0], snapshot.buckets[2]
    order = [
        "2 of 7 buckets are failing",
        failing.summary,
        failing.failures[0].explanation.what_to_do,
        failing.failures[0].request_id,
        throttled.summary,
        "Buckets",
        "ceph.dc2.example.net:8443",
        "[2001:db8::7]:9000",
        "Last failures",
        "Temporary credentials",
        "expires in 14 min",
        "1 of the configuration before the last reload",
    ]
    at = 0
    for expected in order:
        at = parsed.text.index(expected, at)
    assert routes.failure(BASE, failing.id, failing.failures[0].id) in parsed.values("href")
    assert "2026-11-28T02:13:06Z" in parsed.values("datetime")


def test_only_set_secrets_are_named() -> None:
    text = Page(page.render(examples.night(), BASE)).text
    assert "S3SecretKey(set)" in text


def test_the_configuration_that_could_not_be_read() -> None:
    assert "could not be read" not in Page(page.render(examples.night(), BASE)).text
    text = Page(page.render(replace(examples.empty(), is_complete=False), BASE)).text
    assert text.count("could not be read") == 3 and "No bucket has had a request." in text


def test_bucket_in_trouble_without_a_failure() -> None:
    snapshot = examples.night()
    bucket = replace(snapshot.buckets[0], failures=(), summary="")
    text = Page(page.render(replace(snapshot, buckets=(bucket,)), BASE)).text
    assert "The bucket is failing" in text and "There is no explanation." in text and "None is recorded." in text


def test_failures_and_codes_of_the_flight_recorder() -> None:
    snapshot = examples.night()
    bucket = snapshot.buckets[0]
    changed, wrong_key = bucket.failures[0], bucket.failures[1]
    text = page.render_failure(bucket, changed, BASE)
    parsed = Page(text)
    assert "S3 has computed something else than this server has signed" in parsed.text
    assert "The first line that differs is line 2" in parsed.text and "line-1-2" in parsed.values("id")
    assert changed.s3_message in parsed.text and changed.message in parsed.text
    assert text.count("<mark>") == 3
    assert "the secret key of this server is not the one" in Page(page.render_failure(bucket, wrong_key, BASE)).text
    silent = replace(wrong_key, s3_canonical_request="", s3_string_to_sign="")
    assert Page(page.render_failure(bucket, silent, BASE)).text.count("S3 does not say what it has computed.") == 2
    other = replace(wrong_key, s3_code="AccessDenied")
    assert (
        "Both have computed the same, apart from masked values." in Page(page.render_failure(bucket, other, BASE)).text
    )
    unknown = replace(wrong_key, canonical_request="", string_to_sign="")
    assert "It is not known what this server has signed." in Page(page.render_failure(bucket, unknown, BASE)).text
    unsigned = replace(silent, canonical_request="", string_to_sign="", attempts=(), client_status=0, s3_status=0)
    text = Page(page.render_failure(bucket, unsigned, BASE)).text
    assert (
        text.count("Nothing was signed, and nothing was sent to S3.") == 2
        and "S3 was not contacted." in text
        and "no response" in text
    )


def test_error_codes() -> None:
    parsed = Page(page.render_errors(EXPLANATIONS.values(), BASE))
    assert set(EXPLANATIONS) <= set(parsed.values("id"))
    assert all(explanation.what_to_do in parsed.text for explanation in EXPLANATIONS.values())
    assert "They could not be read." in Page(page.render_errors([], BASE)).text


@pytest.mark.parametrize(
    ("healths", "omitted", "sentence", "further"),
    [
        (["failing"], 0, "The bucket is failing", ""),
        (["failing", "ok"], 0, "1 of 2 buckets is failing", "1 OK"),
        (["failing", "failing"], 0, "Both buckets are failing", ""),
        (["failing", "failing", "degraded", "idle"], 3, "2 of 7 buckets are failing", "1 degraded, 1 without requests"),
        (["degraded", "degraded", "degraded"], 0, "All 3 buckets are degraded", ""),
        (["degraded", "ok", "ok"], 0, "1 of 3 buckets is degraded", "2 OK"),
        (["ok"], 0, "The bucket is OK", ""),
        (["ok", "idle"], 0, "Both buckets are OK", "1 OK, 1 without requests"),
        (["ok"] * 4, 0, "All 4 buckets are OK", ""),
        (["idle"] * 4, 0, "All 4 buckets are ready, without requests in the last hour", ""),
        ([], 0, "No bucket is configured", ""),
    ],
)  # fmt: skip
def test_the_state_in_one_sentence(healths: list[str], omitted: int, sentence: str, further: str) -> None:
    snapshot = examples.quiet()
    buckets = tuple(
        replace(snapshot.buckets[0], id=f"b{number}", health=Health(health)) for number, health in enumerate(healths)
    )
    snapshot = replace(snapshot, buckets=buckets, omitted_buckets=omitted)
    assert (words.overall(snapshot), words.further_states(snapshot)) == (sentence, further)


@pytest.mark.parametrize(
    ("expires", "is_failing", "health", "expiry", "sentence"),
    [
        (NOW + 845, False, Health.OK, "expires in 14 min", "The bucket is OK"),
        (NOW + 845, True, Health.DEGRADED, "expires in 14 min", "Temporary credentials cannot be refreshed"),
        (NOW - 240, True, Health.FAILING, "expired 4 min ago", "Temporary credentials have expired and cannot be "
         "refreshed"),
        (NOW - 240, False, Health.IDLE, "expired 4 min ago", "The bucket is OK"),
        (0.0, False, Health.OK, "no expiry is known", "The bucket is OK"),
    ],
)  # fmt: skip
def test_temporary_credentials(expires: float, is_failing: bool, health: Health, expiry: str, sentence: str) -> None:
    identity = Identity("role x", expires, NOW - 900, 0.0, 1, 0, is_failing)
    assert words.health_of_identity(identity, NOW) is health and words.expiry(identity, NOW) == expiry
    assert words.state_of_identity(identity, NOW)
    snapshot = replace(examples.quiet(), buckets=examples.quiet().buckets[:1], identities=(identity,))
    assert words.overall(snapshot) == sentence
    assert sentence in Page(page.render(snapshot, BASE)).text


def test_the_state_of_the_server_itself() -> None:
    snapshot = replace(examples.quiet(), identities=())
    assert words.overall(replace(snapshot, health=Health.FAILING)) == "This server is failing"
    assert words.overall(replace(snapshot, health=Health.DEGRADED)) == "This server needs attention"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 ms"), (0.0004, "0.4 ms"), (0.048, "48 ms"), (0.9996, "1.0 s"), (1.24, "1.2 s"), (9.96, "10 s"),
        (89, "89 s"), (90, "1 min"), (845, "14 min"), (5399, "89 min"), (5400, "1 h 30 min"), (7200, "2 h"),
        (12_000, "3 h 20 min"), (172_799, "47 h 59 min"), (172_800, "2 days"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


def test_moments() -> None:
    assert words.ago(NOW, NOW) == words.ago(NOW + 5, NOW) == "now"
    assert words.ago(NOW - 185, NOW) == "3 min ago"
    assert words.utc(NOW) == "2026-11-28T02:13:20Z" and words.clock(NOW, NOW) == "02:13:20 UTC"
    assert words.clock(NOW - 86400, NOW) == "2026-11-27 02:13:20 UTC" and words.minute(NOW) == "02:13 UTC"
    assert (words.utc(1e300), words.clock(float("nan")), words.minute(float("inf"))) == ("", "unknown", "unknown")


def test_numbers() -> None:
    assert [words.size(octets) for octets in (0, 999, 1500, 123_456, 9.9e20)] == [
        "0 bytes", "999 bytes", "1.5 kB", "123 kB", "990,000 PB"
    ]  # fmt: skip
    assert words.count(1, "resume", "resumes") == "1 resume" and words.count(14_380, "x", "xs") == "14,380 xs"


@pytest.mark.parametrize(
    "character",
    [
        "\x00",
        "\n",
        "\x7f",
        "\x9b",
        "\xad",
        "\u200b",
        "\u202e",
        "\u2066",
        "\ufeff",
        "\ud800",
        "\ue000",
        "\U000e0041",
        "\u3164",
        "\xa0",
    ],
)
def test_each_character_shows(character: str) -> None:
    assert words.visible(f"a{character}b") == f"a\\u{{{ord(character):x}}}b"


def test_visible_texts_stay_as_they_are() -> None:
    text = "films/Nosferatu – Eine Symphonie/日本語 🎬/'\"<&>"
    assert words.visible(text) == text and words.shorten(text, 100) == text


def test_long_texts_keep_their_begin_and_end() -> None:
    text = words.shorten("/films/" + "x" * 1000 + "/seg-00412.m4s", 40)
    assert len(text) == 40 and text.startswith("/films/") and text.endswith("/seg-00412.m4s") and "…" in text
    assert len(words.shorten("\u202e" * 100, 40)) == 40


def minutes(*counts: tuple[int, int, int, float | None]) -> list[Minute]:
    return [Minute(NOW - 60 * (len(counts) - n), *count[:3], 0, count[3]) for n, count in enumerate(counts)]


def test_charts_in_words_and_paths() -> None:
    hour = minutes((10, 0, 0, 0.1), (0, 0, 0, None), (5, 1, 2, 0.2), (5, 5, 0, 0.2))
    chart = charts.exchanges(hour)
    assert chart.paths == ("M0 48V0h1V48h1V24h2V48z", "M0 48V48h2V34h1V48h1V48z", "M0 48V48h2V43h1V24h1V48z")
    assert chart.maximum == "10/min"
    assert chart.text == (
        "20 exchanges in the last hour: 6 failed, 2 client errors. At most 10 in a minute, at 02:09 UTC. "
        "Failures from 02:11 to 02:12 UTC."
    )
    times = charts.first_byte(hour)
    assert times.paths == ("M0 24h1M2 0h2".replace("M0 24h1", "M0 24V24h1").replace("M2 0h2", "M2 0V0h2"),)
    assert times.text == (
        "First byte in the last hour: 150 ms on average, 200 ms at last, at most 200 ms on average of a minute, "
        "at 02:11 UTC."
    )


def test_charts_without_exchanges() -> None:
    for hour in ([], minutes((0, 0, 0, None), (0, 0, 0, None))):
        assert charts.exchanges(hour) == charts.Chart((), "0", "No exchanges in the last hour.")
        assert charts.first_byte(hour) == charts.Chart((), "", "No responses in the last hour.")
    one = charts.exchanges(minutes((100_000, 1, 0, 0.0)))
    assert one.text.endswith("Failures at 02:12 UTC.") and one.paths[2] == "M0 48V45h1V48z"


def test_comparison_of_lines() -> None:
    found = comparison.compare("GET\n/a%20b\n\nhost:x", "GET\n/a%2520b\n\nhost:y\nmore")
    assert [(row.differs, row.is_first) for row in found.rows] == [
        (False, False), (True, True), (False, False), (True, False), (True, False)
    ]  # fmt: skip
    assert (
        found.first == 2 and found.rows[1].ours == ("/a%2", "", "0b") and found.rows[1].theirs == ("/a%2", "52", "0b")
    )
    assert found.rows[4].ours is None and found.rows[4].theirs == ("", "more", "")
    assert comparison.compare("a\nb", "a\nb").first == 0
    alone = comparison.compare("a", "")
    assert alone.first == 0 and alone.rows == (comparison.Row(1, ("a", "", ""), None, False, False),)
    assert comparison.compare("", "") == comparison.Comparison((), False, False, 0)


def test_the_screenshots_of_the_documentation_are_small() -> None:
    docs = Path(__file__).parents[2] / "docs"
    named = set(re.findall(r'(?:src|srcset)="_static/(status-[a-z]+\.png)"', (docs / "status.md").read_text("utf-8")))
    assert {picture.name + ".png" for picture in screenshots.pictures()} >= named and len(named) == 3
    assert all(0 < (docs / "_static" / name).stat().st_size <= screenshots.MAX_BYTES for name in named)


def test_without_jinja2_the_error_says_what_to_install() -> None:
    program = "import sys; sys.modules['jinja2'] = None\nimport usp_s3_wsgi.status.page"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.splitlines()[-1] == (
        "ImportError: the status page needs jinja2 for httpd's Python: pip install 'usp_s3_wsgi[status]'"
    )


def test_templates_have_no_values_that_skip_escaping() -> None:
    folder = resources.files("usp_s3_wsgi.status").joinpath("templates")
    for file in folder.iterdir():
        assert not re.search(r"\|\s*safe|autoescape|Markup", file.read_text("utf-8")), file
