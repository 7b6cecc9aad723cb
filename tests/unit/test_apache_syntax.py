"""The parser of Apache's configuration: it loses nothing, and splits lines and words as httpd does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usp_s3_wsgi.configtest.apache_syntax import ApacheConfigError, Line, Section, Word, parse, quoted, render, walk

SPACE = st.sampled_from(("", " ", "  ", "\t", "\\\n", " \\\r\n  "))
END = st.sampled_from(("\n", "\r\n", " \n"))
VALUE = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), max_size=12)


@st.composite
def lines(draw: st.DrawFn) -> str:
    """A line that is not a tag: blank, a comment or a directive."""
    kind = draw(st.sampled_from(("", "# {}", "ProxyPass /x \\\n  {}", 'S3SecretKey "{}"', "S3Region '{}'", "A {}")))
    # A backslash at the end would join the next line, which may be a tag.
    value = draw(VALUE).rstrip(" \t\v\f\r\\")
    return f"{draw(SPACE)}{kind.format(value)}{draw(END)}"


@st.composite
def configs(draw: st.DrawFn, depth: int = 3) -> str:
    """A configuration with nested sections."""
    pieces = [draw(lines()) for _ in range(draw(st.integers(0, 3)))]
    if depth:
        for _ in range(draw(st.integers(0, 2))):
            name = draw(st.sampled_from(("Proxy", "Location", "IfModule", "VirtualHost")))
            opening = f'{draw(SPACE)}<{name} "{draw(st.sampled_from("/x *:80 https://a/".split()))}">{draw(END)}'
            closing = f"{draw(SPACE)}</{draw(st.sampled_from((name, name.upper())))}>{draw(END)}"
            pieces += [opening, draw(configs(depth - 1)), closing, draw(lines())]
    return "".join(pieces)


@given(configs())
def test_render_returns_the_parsed_text(text: str) -> None:
    assert render(parse(text)) == text
    assert render(parse(text.removesuffix("\n"))) == text.removesuffix("\n")


@given(st.text())
def test_any_text_is_rendered_again_or_rejected_with_a_line_number(text: str) -> None:
    try:
        assert render(parse(text)) == text
    except ApacheConfigError as error:
        number = int(str(error).split(":")[0].removeprefix("line "))
        assert 1 <= number <= text.count("\n") + 1


@given(configs())
def test_words_have_the_right_positions(text: str) -> None:
    for line, _ in walk(parse(text)):
        ends = [0, *(place for word in line.words for place in (word.start, word.end)), len(line.text)]
        assert ends == sorted(ends)
        for index, word in enumerate(line.words):
            assert line.with_word(index, line.text[word.start : word.end]) == line.text


@given(st.lists(VALUE))
def test_quoted_values_are_parsed_again(values: list[str]) -> None:
    (line,) = parse(" ".join(["SetEnv", *map(quoted, values)]))
    assert isinstance(line, Line) and line.arguments == tuple(values)


def only(text: str) -> Line:
    """Return the only line of a text."""
    (node,) = parse(text)
    assert isinstance(node, Line)
    return node


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("S3Region eu-central-1\n", ["S3Region", "eu-central-1"]),
        ("  S3Region\teu-central-1 \r\n", ["S3Region", "eu-central-1"]),
        ("S3Region \"eu central\" 'a b'", ["S3Region", "eu central", "a b"]),
        (r'A "x\"y\\z\n" ' + r"'x\'y\"z'", ["A", r'x"y\z\n', r"x'y\"z"]),
        (r"A b\\c d\"e", ["A", r"b\c", r"d\"e"]),
        ('A b"c d"', ["A", 'b"c', 'd"']),
        ('"A""b" c', ["A", "b", "c"]),
        ('A "not closed', ["A", "not closed"]),
        ('A ""', ["A", ""]),
        ("A b # no comment", ["A", "b", "#", "no", "comment"]),
        ("A b\\\nc \\\n  d\n", ["A", "bc", "d"]),
        ("A b\\\r\n c\r\n", ["A", "b", "c"]),
        ("A b\\\\\nc\n", ["A", "b\\c"]),  # the second of two backslashes continues
        ("A b\\", ["A", "b\\"]),
        ("\\\n  A b", ["A", "b"]),
        ("Pro\\\nxySet x", ["ProxySet", "x"]),
        ("A b\u2028c\u00a0d\x85e", ["A", "b\u2028c\u00a0d\x85e"]),  # for httpd, neither spaces nor ends of line
        ("  # A b \\\n C d\n", []),
    ],
)
def test_words_are_split_as_by_httpd(text: str, words: list[str]) -> None:
    nodes = parse(text)
    assert [word.value for line, _ in walk(nodes) for word in line.words] == words
    assert len(nodes) == bool(text) and render(nodes) == text


def test_a_line() -> None:
    line = only('  ProxyPass "/x" \\\n  https://a/\n')
    assert line.name == "proxypass" and line.arguments == ("/x", "https://a/") and line.indent == "  "
    assert line.words[1] == Word("/x", 12, 16)
    assert line.with_word(1, "/y") == "  ProxyPass /y \\\n  https://a/\n"
    assert line.with_word(2, "b") == '  ProxyPass "/x" \\\n  b\n'
    assert only("# x\n").name == only("\n").name == only("\n").indent == ""


def test_sections() -> None:
    text = '<VirtualHost *:80>\n # a\n  <LOCATION "/a>b" >junk\n  X\n  </location>\n</VirtualHost>\nY'
    host, last = parse(text)
    assert isinstance(host, Section) and host.name == "virtualhost" and host.opening.arguments == ("*:80",)
    comment, location = host.body
    assert isinstance(location, Section) and location.name == "location" and location.opening.arguments == ("/a>b",)
    assert isinstance(comment, Line) and isinstance(last, Line)
    found = [(line.number, line.name, len(sections)) for line, sections in walk((host, last))]
    assert found == [
        (1, "<virtualhost", 1),
        (2, "", 1),
        (3, "<location", 2),
        (4, "x", 2),
        (5, "</location", 2),
        (6, "</virtualhost", 1),
        (7, "y", 0),
    ]


def test_line_numbers_are_those_of_an_editor() -> None:
    assert [line.number for line, _ in walk(parse("A\\\n b\\\n c\nB\n\nC"))] == [1, 4, 5, 6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n<Proxy x>\nS3SecretKey SECRET\n", "line 2: this section is not closed"),
        ("<Proxy x>\n<SECRET>\n</Proxy>\n", "line 3: this tag does not close the section of line 2"),
        ("A\n</SECRET>\n", "line 2: this tag closes a section that is not open"),
        ("<Proxy SECRET\n", "line 1: this tag has no >"),
        ("<a>\n" * 2_000 + "</a>\n" * 2_000, "line 51: sections are nested more than 50 deep"),
    ],
)
def test_wrong_nesting_is_rejected_with_a_line_number(text: str, message: str) -> None:
    with pytest.raises(ApacheConfigError) as caught:
        parse(text)
    assert str(caught.value) == message and isinstance(caught.value, ValueError)


@pytest.mark.parametrize("end", ["", "\n", "\r\n", " \t\n", "\\\n\n"])
def test_a_quote_that_is_not_closed_ends_with_the_line(end: str) -> None:
    """httpd removes the white space at the end of a line first."""
    for text in (f'A "b c{end}', f"A 'b c{end}"):
        (line,) = parse(text)
        assert isinstance(line, Line) and line.arguments == ("b c",) and line.text == text
        assert line.with_word(1, "x") == f"A x{end}"


def test_deeply_nested_sections() -> None:
    text = "<If x>\n" * 50 + "A\n" + "</If>\n" * 50
    assert render(parse(text)) == text


def test_no_secret_is_in_a_repr() -> None:
    nodes = parse("<Proxy x>\nS3SecretKey SECRET\n</Proxy>\n")
    assert "SECRET" not in repr(nodes)
