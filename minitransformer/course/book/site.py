"""Build the book: pages as Markdown, then Sphinx with the furo theme; nothing is run, and nothing is fetched.

The site opens from disk and from any server. Sphinx is also given what it lacks: formulas set by KaTeX while building,
a search that finds Chinese, and the scripts of the living figures on the pages that have one.
"""

from __future__ import annotations

import re
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minitransformer.course import lessons
from minitransformer.course.book import export, living, living_record, notebooks, pages, records, tex, translation
from minitransformer.course.book.code import Package
from minitransformer.course.bootstrap import ROOT
from minitransformer.course.output.terminal import say
from minitransformer.course.translation import catalogues
from minitransformer.errors import UserError

BUILD = ROOT / "build" / "book"
NAMES = {"en": "English", "zh": "中文"}


def build(out: Path = BUILD, language: str = "en", languages: Sequence[str] = ("en",), quiet: bool = True) -> Path:
    """Build the site of one language; gives its first page.

    Args:
        out: the folder of all languages.
        language: "en", or one that has a folder in lessons/translations.
        languages: all that are built, to be linked to each other.
        quiet: whether Sphinx tells only what is wrong.

    Raises:
        UserError: Python is too old, a lesson is malformed, a formula cannot be set, or Sphinx finds something wrong.
    """
    if sys.version_info < (3, 11):
        raise UserError(
            f"The book is built with Sphinx, which needs Python 3.11; this is {sys.version.split()[0]}. The lessons "
            "themselves run on yours. Name a newer Python: make PYTHON=python3.12 book"
        )
    source, site = out / "pages" / language, out / language
    shutil.rmtree(source, ignore_errors=True)
    shutil.rmtree(site, ignore_errors=True)
    kept = {number: one for number, one in records.read_all().items() if records.fits(number, one)}
    found = lessons.lessons()
    book = pages.Book(
        Package(),
        kept,
        records.stale(kept),
        living.read(living_record.LIVING),
        lambda part: catalogues.translator(language, part),
        lessons=found,
    )
    write_pages(book, source)
    static = source / "_static"
    shutil.copytree(living.PAGE, static, ignore=shutil.ignore_patterns("katex.min.js", "README.md"))
    export.write_data(static / "data")
    (static / "living" / "words.js").write_text(translation.words_script(language), encoding="utf-8")
    for number, one in kept.items():
        pictures = static / "figures" / f"lesson_{number:02}"
        shutil.copytree(one.folder, pictures, ignore=shutil.ignore_patterns("record.json"))
    _sphinx(source, site, out / "work" / language, language, languages, quiet)
    shutil.rmtree(site / "_sources", ignore_errors=True)
    notebooks.write_all(found, kept, site / "notebooks")
    return site / "index.html"


def write_pages(book: pages.Book, folder: Path) -> None:
    """Write every page as Markdown."""

    def write(name: str, text: str) -> None:
        path = folder / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    for found in book.lessons:  # first, because sources say which lessons use them
        write(pages.lesson_page(found.number), pages.lesson(book, found))
    for module in filter(lambda one: book.has_page(one.name), book.package.modules.values()):
        write(pages.source_page(module.name), pages.source(book, module))
    for name in ("gpt", "train", "tokenizer", "sampling", "files"):
        write(f"source/page/{name}", pages.script_page(name))
    write("index", pages.index_page(book))
    write("figures", pages.figures_page(book))
    write("documents", pages.documents_page(book))
    write("glossary", pages.glossary_page(book))
    write("laboratory", pages.laboratory_page(book))
    shutil.copy(ROOT / "data" / "lab" / "rows.jsonl", folder / "rows.jsonl")
    write("api", pages.api_page(book))


def _sphinx(source: Path, site: Path, work: Path, language: str, languages: Sequence[str], quiet: bool) -> None:
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace

    shutil.rmtree(work, ignore_errors=True)
    title = "minitransformer"
    settings: dict[str, Any] = {
        "project": title,
        "html_title": title,
        "html_short_title": title,
        "language": {"zh": "zh_CN"}.get(language, language),
        "extensions": ["myst_parser", __name__],
        "html_theme": "furo",
        "html_static_path": ["_static"],
        "html_favicon": "_static/favicon.svg",  # or a browser asks a server for /favicon.ico
        "html_css_files": ["katex/katex.min.css", "living/living.css", "book.css"],
        "html_js_files": [("book.js", {"defer": "defer"})],
        "html_theme_options": {"sidebar_hide_name": False},
        "html_math_renderer": "katex",
        "html_show_search_summary": False,  # it would fetch every page that was found, which file:// forbids
        "html_show_sourcelink": False,
        "html_copy_source": False,
        "html_use_index": False,
        "html_domain_indices": False,
        "html_show_sphinx": False,
        "html_show_copyright": False,
        "html_search_language": "en",
        "highlight_language": "python",
        "pygments_style": "friendly",
        "myst_enable_extensions": ["dollarmath", "colon_fence", "attrs_block", "attrs_inline"],
        "myst_dmath_allow_labels": False,
        "myst_heading_anchors": 0,
        "exclude_patterns": ["_static"],
        "suppress_warnings": ["myst.header", "misc.highlighting_failure"],
        "html_context": {"languages": list(languages), "own": language},
    }
    complaints = _Warnings()
    with docutils_namespace(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Sphinx's libraries among each other
        app = Sphinx(
            source,
            None,
            site,
            work,
            "html",
            settings,
            status=None if quiet else sys.stdout,
            warning=complaints,
            parallel=2,
        )
        app.build()
    if complaints.lines:
        listed = "\n".join(complaints.lines[:20])
        raise UserError(f"Sphinx finds {len(complaints.lines)} things wrong with the pages in {source}:\n{listed}")


class _Warnings:
    """Collects what Sphinx warns of, without colours."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, text: str) -> None:
        text = re.sub(r"\x1b\[[\d;]*m", "", text).strip()
        if text:
            self.lines.append(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        """Colours are not wanted."""
        return False


def main() -> None:
    """Build the book in English, and in each language that has a declared lesson; say which lessons are stale.

    Raises:
        UserError: as `build`.
    """
    languages = ["en", *translation.languages()]
    built = [build(language=language, languages=languages) for language in languages]
    for sentence in records.stale().values():
        say(sentence)
    for page in built:
        say(f"The book is built: open {page.relative_to(ROOT)}")


# ---------------------------------------------------------------- the extension


def setup(app: Any) -> dict[str, bool]:
    """Give Sphinx KaTeX, the search and the figures' scripts."""
    from minitransformer.course.book.search import SearchBoth

    app.add_search_language(SearchBoth)
    app.add_html_math_renderer("katex", (_inline_math, None), (_display_math, None))
    app.connect("doctree-read", _add_places)
    app.connect("html-page-context", _add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _add_places(app: Any, doctree: Any) -> None:
    """Give each heading an id that is the same in every language, for the links between the languages (book.js)."""
    from docutils import nodes

    for at, section in enumerate(doctree.findall(nodes.section)):
        section["ids"].append(f"place-{at}")


def _inline_math(translator: Any, node: Any) -> None:
    from docutils.nodes import SkipNode

    translator.body.append(tex.shown(node.astext()))
    raise SkipNode


def _display_math(translator: Any, node: Any) -> None:
    from docutils.nodes import SkipNode

    translator.body.append(f"<div class='formula'>{tex.shown(node.astext(), display=True)}</div>")
    raise SkipNode


def _add_scripts(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Load a figure's script on the pages that have it."""
    others = [one for one in context.get("languages", ()) if one != context.get("own")]
    if others and "body" in context:
        up = "../" * (page.count("/") + 1)
        links = " ".join(f'<a href="{up}{one}/{page}.html" lang="{one}">{NAMES[one]}</a>' for one in others)
        context["body"] = f'<p class="languages">{links}</p>{context["body"]}'
    names = re.findall(r'<figure data-living="([a-z]+)"', context.get("body", ""))
    for script in living.scripts(names):
        app.add_js_file(script, loading_method="defer")
