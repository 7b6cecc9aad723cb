"""Makes the search of the built pages find statuses: Sphinx ignores numbers, in the pages and in a query."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish


class SearchWithStatuses(SearchEnglish):
    """English, with a word of its own for each number of three digits: ``_502`` for 502."""

    js_splitter_code = r"""
var splitQuery = (query) =>
  query
    .split(/[^\p{Letter}\p{Number}_\p{Emoji_Presentation}]+/gu)
    .filter((word) => word)
    .map((word) => (/^[1-5]\d\d$/.test(word) ? "_" + word : word));
"""

    def split(self, input: str) -> list[str]:
        return [re.sub(r"^([1-5]\d\d)$", r"_\1", word) for word in super().split(input)]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_search_language(SearchWithStatuses)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
