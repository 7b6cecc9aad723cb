"""The finder of blocks: the pages have no wrong comment, and each error is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import Block, BlockError, blocks_of, find_blocks, indented_blocks
from tests.docs.pages import name, pages


@pytest.mark.parametrize("path", [pytest.param(path, id=name(path)) for path in pages()])
def test_each_block_of_a_page_names_its_language(path: Path) -> None:
    assert indented_blocks(path.read_text("utf-8")) == []
    blocks_of(path)


PAGE = """\
# Title

<!-- a comment that is not for the tests, and `<!-- test: x -->` in code -->

1. A step:

   <!-- test: server=gateway; status=1 3 -->
   ```console
   $ true
   ```

Text
<!-- test: none because it is a
picture -->
~~~text
```apache
~~~

```apache
Listen 80
```
"""


def test_blocks_are_found() -> None:
    assert list(find_blocks(PAGE, "x.md")) == [
        Block("x.md", 8, "console", "$ true\n", {"server": "gateway", "status": "1 3"}),
        Block("x.md", 15, "text", "```apache\n", {}, "it is a picture"),
        Block("x.md", 19, "apache", "Listen 80\n"),
    ]


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("<!-- test: in=gateway -->\n", "x.md:1: no block follows the comment"),
        ("<!-- test: in=gateway -->\nText\n```apache\n```\n", "x.md:1: no block follows the comment"),
        ("<!-- test: in=gateway -->\n\n```apache\n```\n", "x.md:1: the comment is not in the line before its block"),
        ("<!-- test: server=gateway -->\n\n    $ true\n", "x.md:1: no block follows the comment"),
        ("<!-- test: in=proxy -->\n<!-- test: in=proxy -->\n```apache\n```\n", "x.md:1: no block follows the comment"),
        ("<!-- test: on=gateway -->\n```apache\n```\n", "x.md:2: 'on' is none of the keys of apache: "),
        ("<!-- test: server=gateway -->\n```apache\n```\n", "x.md:2: 'server' is none of the keys of apache: "),
        ("<!-- test: in=daemon -->\n```apache\n```\n", "x.md:2: the value of in is not in its form: 'daemon'"),
        ("<!-- test: get=/media -->\n```apache\n```\n", "x.md:2: the value of get is not in its form: '/media'"),
        ("<!-- test: in=proxy; in=proxy -->\n```apache\n```\n", "x.md:2: in is there twice"),
        ("<!-- test: in -->\n```apache\n```\n", "x.md:2: 'in' is none of the keys of apache"),
        ("<!-- test: none because -->\n```apache\n```\n", "x.md:2: not in the form none because REASON"),
        ("<!-- test: none -->\n```apache\n```\n", "x.md:2: not in the form none because REASON"),
        ("<!-- test: none because x --> more\n```apache\n```\n", "x.md:1: not in the form <!-- test: ... -->"),
        ("Text <!-- test: in=gateway -->\n```apache\n```\n", "x.md:1: the comment is not in a line of its own"),
        ("```\nx\n```\n", "x.md:1: the language '' is none of apache, console, "),
        ("```bash\nx\n```\n", "x.md:1: the language 'bash' is none of apache, console, "),
    ],
)  # fmt: skip
def test_errors(page: str, message: str) -> None:
    with pytest.raises(BlockError) as caught:
        list(find_blocks(page, "x.md"))
    assert str(caught.value).startswith(message)


def test_a_comment_in_code_is_text() -> None:
    assert list(find_blocks("`<!-- test: x -->`\n\n```text\n<!-- test: x -->\n```\n", "x.md")) != []


def test_indented_blocks() -> None:
    assert indented_blocks("Text:\n\n    make demo\n\n- item\n\n  more\n\n      code\n") == [3, 9]
