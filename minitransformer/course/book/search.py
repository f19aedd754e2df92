"""Full-text search in English and Chinese: Chinese has no spaces, so its pairs of neighbouring characters are indexed.

Sphinx's own Chinese search needs a dictionary of words, and its script is broken in version 9.0.4 ("ChineseStemmer is
not defined"). Pairs need neither: 前缀微调 is found by 前缀, 缀微 and 微调, in the index as in the query.
"""

from __future__ import annotations

import re

from sphinx.search.en import SearchEnglish

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
PIECE = re.compile(rf"[{HAN}]+|[^\W{HAN}]+")

SPLITTER = r"""
const HAN = "\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff";
const PIECE = new RegExp(`[${HAN}]+|(?:(?![${HAN}])[\\p{L}\\p{N}_])+`, "gu");
/* English words, and the pairs of neighbouring Chinese characters; a single one stands for itself. */
function splitQuery(query) {
  return (query.match(PIECE) || []).flatMap((piece) => {
    if (piece.length === 1 || !/^[\u3400-\u9fff\uf900-\ufaff]/.test(piece)) return [piece];
    return Array.from({ length: piece.length - 1 }, (_, i) => piece.slice(i, i + 2));
  });
}
"""


class SearchBoth(SearchEnglish):
    """Sphinx's English search, with Chinese beside it."""

    lang = "en"
    js_splitter_code = SPLITTER

    def split(self, input: str) -> list[str]:
        """Words to index: English ones, single Chinese characters, and pairs of them."""
        words: list[str] = []
        for piece in PIECE.findall(input):
            if re.match(rf"[{HAN}]", piece):
                words += [*piece, *(piece[i : i + 2] for i in range(len(piece) - 1))]
            else:
                words.append(piece)
        return words
