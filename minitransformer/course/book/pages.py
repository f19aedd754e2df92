"""The book's pages as Markdown files, which Sphinx then turns into a site: lessons, sources, index, glossary, …

Nothing is run here. What lessons print comes from their records (course/record.py).
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Any

from minitransformer.course import documents, index, lessons
from minitransformer.course.book import code, glossary, living, prose, tex
from minitransformer.course.bootstrap import ROOT
from minitransformer.course.translation.blocks import ENGLISH, Translator, translated
from minitransformer.course.translation.catalogues import Part
from minitransformer.course.workbook import catalogue


@dataclass
class Book:
    """What all pages share."""

    package: code.Package
    records: Mapping[int, Any]
    """Lesson → its record; lessons without one are printed without outcomes."""
    stale: Mapping[int, str]
    """Lesson → why its record does not hold."""
    numbers: Mapping[str, Any]
    """The living figures' recorded numbers."""
    translate: Callable[[Part], Translator] = lambda part: ENGLISH
    """Lesson → how its blocks are translated; "book" for what belongs to no lesson."""
    uses: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Dotted name → the lessons whose code uses it; filled while lessons are written."""
    lessons: list[lessons.Lesson] = field(default_factory=list)

    @cached_property
    def targets(self) -> dict[str, Any]:
        """What the exercises ask the reader to write: dotted name → exercise."""
        return {
            exercise.target.replace(":", "."): exercise
            for number in catalogue.files()
            for exercise in catalogue.exercises(number)
        }

    def has_page(self, module: str) -> bool:
        """Whether a module has a page: the library's have one, and those of the course that lessons or exercises name.

        The rest is the machine around the lessons, which nobody is led to; with a hundred modules more the book is too
        large. It is asked when the lessons are written.
        """
        return not module.startswith(f"{code.PACKAGE}.course") or module in self._named

    @cached_property
    def _named(self) -> set[str]:
        """The modules that lessons or exercises name, once all lessons are written."""
        return {self.package.module_of(name).name for name in (*self.uses, *self.targets)}


# ---------------------------------------------------------------- addresses


def source_page(module: str) -> str:
    """The page of a module, "source/minitransformer.models.attention"."""
    return f"source/{module}"


def anchor(dotted: str, module: str) -> str:
    """The place of a definition in its module's page."""
    return "" if dotted == module else dotted.removeprefix(module + ".")


class Addresses(dict):
    """Dotted name → href from a page, made when asked for.

    Args:
        package: what names there are.
        up: from the page to the book's root, "../".
        has_page: whether a module has one; if none is given, all have.
    """

    def __init__(self, package: code.Package, up: str, has_page: Callable[[str], bool] = lambda module: True) -> None:
        super().__init__()
        self.package, self.up, self.has_page = package, up, has_page

    def __contains__(self, dotted: object) -> bool:
        """Whether a name is the package's, and of a module that has a page."""
        is_ours = isinstance(dotted, str) and dotted.startswith(code.PACKAGE)
        return is_ours and self.has_page(self.package.module_of(str(dotted)).name)

    def __missing__(self, dotted: str) -> str:
        """The href of one name."""
        module = self.package.module_of(dotted).name
        place = anchor(dotted, module)
        return f"{self.up}{source_page(module)}.html" + (f"#{place}" if place else "")


def lesson_page(number: int) -> str:
    """The page of a lesson, "lessons/lesson_09"."""
    return f"lessons/lesson_{number:02}"


# ---------------------------------------------------------------- a lesson


def lesson(book: Book, found: lessons.Lesson) -> str:
    """One lesson: prose, formulas, code, what it printed, living figures, exercises."""
    number, translate, words = found.number, book.translate(found.number), book.translate("book")
    record = book.records.get(number)
    up = "../"
    tree = ast.parse(found.path.read_text(encoding="utf-8"))
    linker = code.Linker(book.package, tree)
    addresses = Addresses(book.package, up)
    parts = [
        f"(lesson-{number})=\n# {number} · {translate(found.title)}",
        f"{{.question}}\n{tex.inline(translate(found.question))}",
        prose.raw(_facts(found, words)),
    ]
    if number in book.stale:
        parts.append(
            f":::{{admonition}} {words('Not up to date')}\n:class: warning\n{_old(number, record, words)}\n:::"
        )
    figures = {figure.name: figure for figure in living.FIGURES if figure.lesson == number}
    step, waiting = "", []  # the step that is being written, and the living figures that stand at its end

    def end_of_step() -> None:
        parts.extend(prose.raw(living.html(figure, book.numbers[figure.name], translate, words)) for figure in waiting)
        waiting.clear()

    outcomes = iter(record.cells) if record is not None else None  # one for each cell of code
    for cell in found.cells:
        if cell.title:
            end_of_step()
            step = cell.title
            parts.append(f"(lesson-{number}-step-{cell.number})=\n## {translate(cell.title)}")
            for name in [name for name, figure in figures.items() if re.search(figure.step, step)]:
                waiting.append(figures.pop(name))
        if cell.prose:
            parts.append(prose.markdown(cell.prose, translate, raise_by=1))
        if cell.shown and not cell.hidden:
            links = _links(linker, cell.shown)
            for link in links:
                book.uses[link.target].add(number)
            parts.append(prose.raw(code.box(code.highlight(cell.shown, links, addresses), "lesson-code")))
        if outcomes is not None and cell.is_code:
            shown = [
                event_html(event, number, addresses, translate, words, book.targets) for event in next(outcomes).events
            ]
            if shown:
                parts.append("\n\n".join(["::::{container} outcome", *shown, "::::"]))
    waiting.extend(figures.values())
    end_of_step()
    parts.append(exercises(book, number))
    if record is not None:
        parts.append(prose.raw(f'<p class="measured">{escape(measured(record, words))}</p>'))
    return "\n\n".join(filter(None, parts)) + "\n"


def _links(linker: code.Linker, shown: str) -> list[code.Link]:
    try:
        return linker.links(shown)
    except SyntaxError:  # a cell whose visible part is no whole statement
        return []


def _facts(found: lessons.Lesson, words: Translator) -> str:
    needs = words(", ").join(f'<a href="lesson_{need:02}.html">{need}</a>' for need in found.needs)
    after = words("after lessons {needs}") if len(found.needs) > 1 else words("after lesson {needs}")
    facts = [words("about {minutes} minutes").format(minutes=f"{found.minutes:g}")]
    facts += [after.format(needs=needs)] if needs else []
    facts += [
        words("mirrors {documents}").format(documents=escape(found.documents)),
        words("run it: {command}").format(command=f"<code>make lesson-{found.number}</code>"),
        f'<a href="../notebooks/{found.path.stem}.ipynb" download>{words("notebook")}</a>',
    ]
    return f'<ul class="facts">{"".join(f"<li>{fact}</li>" for fact in facts)}</ul>'


def _old(number: int, record: Any, words: Translator) -> str:
    """What a reader has to know of a page whose record is missing, or older than the lesson."""
    if record is None:
        why = words("What this lesson prints was not recorded yet, so that it is missing on this page.")
    else:
        why = words("What is printed here was recorded before the last change of the lesson or of the package.")
    shows = words("{command} shows it on your machine.").format(command=f"`make lesson-{number}`")
    return f"{why}\n\n{shows}"


def measured(record: Any, words: Translator = ENGLISH) -> str:
    """Where the numbers of a page come from."""
    return words(
        "The numbers on this page were measured in {seconds} seconds on {system} ({processor}), {threads} threads of "
        "{cores} cores, with PyTorch {torch} and Python {python}. On another machine the last digits will differ, and "
        "whatever measures time."
    ).format(seconds=f"{record.seconds:.0f}", **record.machine, **record.versions)


# ---------------------------------------------------------------- what lessons printed


def event_html(
    event: Mapping[str, Any],
    number: int,
    addresses: Mapping[str, str],
    translate: Translator = ENGLISH,
    words: Translator = ENGLISH,
    targets: Mapping[str, Any] | None = None,
) -> str:
    """One recorded outcome of lesson `number`, in the page's Markdown."""
    targets = targets or {}
    match event["kind"]:
        case "say":
            return prose.markdown(event["text"], translate, raise_by=1)
        case "verbatim":
            return prose.raw(f"<pre class='plain'>{escape(event['text'])}</pre>")
        case "table":
            return prose.raw(table_html(event, translate))
        case "source":
            name = event["name"]
            dotted = name.replace(":", ".")
            href = addresses[dotted] if dotted in addresses else ""
            shown = name.removeprefix(code.PACKAGE + ".").replace(":", " · ")
            head = f'<p class="source-name"><a href="{escape(href)}">{escape(shown)}</a></p>'
            box = code.box(code.highlight(event["code"]), "package-code")
            if (exercise := targets.get(dotted)) is not None:
                summary = words("The answer of exercise {exercise}, {lines} lines").format(
                    exercise=exercise.id, lines=event["code"].count("\n") + 1
                )
                box = f"<details class='answer'><summary>{summary}</summary>{box}</details>"
            return prose.raw(head + box)
        case "figure":
            address = f"../_static/figures/lesson_{number:02}/{event['file']}"
            width = round(96 * event["inches"][0])
            picture = f'<img src="{address}" alt="{escape(translate(event["alt"]))}" width="{width}" loading="lazy">'
            words = prose.inline_html(translate(event["caption"]))
            return prose.raw(f'<figure class="drawn">{picture}<figcaption>{words}</figcaption></figure>')
    raise ValueError(f"no page shows an event of kind {event['kind']}")


def table_html(table: Mapping[str, Any], translate: Translator = ENGLISH) -> str:
    """A recorded table; its bars are drawn, its symbols are set."""
    sides = ["right" if right else "left" for right in table["right"]]
    head = "".join(
        f'<th scope="col" class="{s}">{prose.inline_html(translate(h))}</th>'
        for h, s in zip(table["headers"], sides, strict=True)
    )
    rows = [
        "".join(f'<td class="{s}">{_cell(c, translate)}</td>' for c, s in zip(row, sides, strict=True))
        for row in table["rows"]
    ]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="table-wrapper outcome-table"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(cell: str | Mapping[str, Any], translate: Translator) -> str:
    """A cell: what has an index or a Greek letter is set as a formula; a lone letter may be a token, and stays."""
    if isinstance(cell, Mapping):
        return f'<span class="bar" style="--value: {cell["bar"]:.4f}"></span>'
    cell = translate(cell)
    if len(cell) < 40 and tex.STRONG.search(cell):
        return prose.inline_html(cell)
    return escape(cell)


# ---------------------------------------------------------------- exercises


def exercises(book: Book, number: int) -> str:
    """The exercises of a lesson: purpose, hints folded one in another, the command that starts them."""
    if number not in catalogue.files():
        return ""
    translate, words = book.translate(number), book.translate("book")
    addresses = Addresses(book.package, "../")
    parts = [
        f"(exercises-{number})=\n## {words('Exercises')}",
        words(
            "`make start-{number}` writes the stubs to your workbook, and `make check-{number}` says what is wrong. "
            "`make hint-{number}` gives one hint at a time; they are below as well."
        ).format(number=number),
    ]
    for exercise in catalogue.exercises(number):
        target = exercise.target.replace(":", ".")
        href = addresses[target]
        name = exercise.target.rpartition(":")[2]
        parts.append(
            f"### {exercise.id} · {translate(exercise.title)}\n\n"
            + prose.raw(
                f'<p class="exercise-facts"><a href="{href}"><code>{escape(name)}</code></a> · '
                f'<span title="{words("difficulty {n} of {most}").format(n=exercise.difficulty, most=3)}">'
                f"{'●' * exercise.difficulty}{'○' * (3 - exercise.difficulty)}</span> · "
                f"{words('about {minutes} minutes').format(minutes=f'{exercise.minutes:g}')} · "
                f"<code>make check-{exercise.id}</code></p>"
            )
            + "\n\n"
            + prose.markdown(exercise.purpose, translate)
            + "\n"
            + prose.raw(_hints(exercise.hints, translate, words))
        )
    return "\n\n".join(parts)


def _hints(hints: Sequence[str], translate: Translator, words: Translator) -> str:
    html = ""
    for at in range(len(hints) - 1, -1, -1):
        first, *lines = hints[at].split("\n")
        shown = f"<p>{prose.inline_html(translate(first))}</p>"
        if lines:
            shown += code.box(code.highlight("\n".join(line.removeprefix("    ") for line in lines)))
        title = words("Hint {n} of {most}").format(n=at + 1, most=len(hints))
        html = f"<details class='hint'><summary>{title}</summary>{shown}{html}</details>"
    return html


# ---------------------------------------------------------------- source pages


def _in_english(words: Translator) -> list[str]:
    """In a translated book, a line for a page whose code speaks English."""
    if words.catalogue is None:
        return []
    return [prose.raw(_remark(words("The code and its docstrings are in English.")))]


def source(book: Book, module: code.Module) -> str:
    """One module: its docstring as prose, its code with anchors, an exercise's answer folded."""
    addresses, words = Addresses(book.package, "../", book.has_page), book.translate("book")
    linker = code.Linker(book.package, module.tree, module.name)
    links = sorted(_links(linker, module.source), key=lambda link: link.line)
    path = module.path.relative_to(ROOT).as_posix()
    lines = module.source.split("\n")
    orphan = module.name.startswith(f"{code.PACKAGE}.course")  # many, and no part of the library: not in the sidebar
    parts = ["---\norphan: true\n---"] if orphan else []
    parts += [f"# {module.name.removeprefix(code.PACKAGE + '.')}", prose.raw(f'<p class="path">{path}</p>')]
    parts += _in_english(words)
    if text := ast.get_docstring(module.tree):
        parts.append(prose.markdown(text, raise_by=2))
    for node, first, last in code.pieces(module):
        if node is not None:
            dotted = f"{module.name}.{node.name}"
            parts.append(f"## `{node.name}`")
            used = sorted(set().union(*(book.uses.get(name, set()) for name in _within(module, dotted))))
            if used:
                where = ", ".join(f'<a href="../{lesson_page(n)}.html">{n}</a>' for n in used)
                said = words("used in lessons {lessons}") if len(used) > 1 else words("used in lesson {lessons}")
                parts.append(prose.raw(f'<p class="used">{said.format(lessons=where)}</p>'))
        while first < last and not lines[first - 1].strip():
            first += 1
        while last > first and not lines[last - 1].strip():
            last -= 1
        if node is None and first == last and (part := re.fullmatch(r"# -{8,} (.+)", lines[first - 1])):
            parts.append(prose.raw(f'<p class="part">{escape(part[1])}</p>'))
            continue
        parts.append(prose.raw(_piece(module, lines, first, last, links, addresses, book.targets, words)))
    return "\n\n".join(parts) + "\n"


def _within(module: code.Module, dotted: str) -> Iterable[str]:
    """A definition and its methods."""
    return (name for name in module.definitions if name == dotted or name.startswith(dotted + "."))


def _piece(
    module: code.Module,
    lines: list[str],
    first: int,
    last: int,
    links: list[code.Link],
    addresses: Mapping[str, str],
    targets: Mapping[str, Any],
    words: Translator,
) -> str:
    """Lines of a module as boxes of code: an anchor before each definition, an exercise's answer in a fold."""
    cuts: list[tuple[int, str, Any]] = []  # line, "anchor" or "fold", the name or the exercise and its last line
    for dotted, node in module.definitions.items():
        if not first <= node.lineno <= last:
            continue
        start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        cuts.append((start, "anchor", anchor(dotted, module.name)))
        if dotted in targets and isinstance(node, ast.FunctionDef):
            has_docstring = ast.get_docstring(node) is not None
            body = node.body[1:] if has_docstring else node.body
            if body:
                cuts.append((body[0].lineno, "fold", (targets[dotted], node.end_lineno)))
    for dotted, line in module.constants.items():
        if first <= line <= last and dotted not in module.definitions:
            cuts.append((line, "anchor", anchor(dotted, module.name)))
    html, at = [], first

    def show(start: int, end: int) -> str:
        text = "\n".join(lines[start - 1 : end])
        return code.highlight(text, [link for link in links if start <= link.line <= end], addresses, start)

    box: list[str] = []
    for line, kind, what in sorted(cuts, key=lambda cut: (cut[0], cut[1])):
        if line < at:
            continue
        if line > at:
            box.append(show(at, line - 1) + "\n")
        at = line
        if kind == "anchor":
            box.append(f'<span id="{escape(what)}"></span>')
        else:
            exercise, end = what
            html.append(code.box("".join(box).rstrip("\n"), "package-code"))
            inside = code.box(show(line, end), "package-code")
            href = f"../{lesson_page(exercise.lesson)}.html#exercises-{exercise.lesson}"
            summary = words("The answer of exercise {exercise}, {lines} lines").format(
                exercise=f"<a href='{href}'>{exercise.id}</a>", lines=end - line + 1
            )
            html.append(f"<details class='answer'><summary>{summary}</summary>{inside}</details>")
            box, at = [], end + 1
    if at <= last and "".join(lines[at - 1 : last]).strip():
        box.append(show(at, last))
    if "".join(box).strip():
        html.append(code.box("".join(box).strip("\n"), "package-code"))
    return "\n".join(html)


# ---------------------------------------------------------------- the other pages


def index_page(book: Book) -> str:
    """The first page."""
    translate = book.translate("book")
    rows = "".join(
        f'<tr><td class="right">{found.number}</td><td><a href="{lesson_page(found.number)}.html">'
        f"{escape(book.translate(found.number)(found.title))}</a><br><span class='question-in-list'>"
        f"{prose.inline_html(book.translate(found.number)(found.question))}</span></td></tr>"
        for found in book.lessons
    )
    toctree = "\n".join(lesson_page(found.number) for found in book.lessons)
    return "\n\n".join(
        [
            f"# {translate('Transformers and parameter-efficient tuning')}",
            translate(
                "This is the course to read along. Every lesson is a program; what it printed stands here below its "
                "code. Every name in the code leads to its source. The figures marked ▶ run in this page: type your "
                "own sentence."
            ),
            prose.raw(f'<table class="lesson-list"><tbody>{rows}</tbody></table>'),
            f"```{{toctree}}\n:hidden:\n:caption: {translate('Lessons')}\n\n{toctree}\n```",
            f"```{{toctree}}\n:hidden:\n:caption: {translate('Beside the lessons')}\n\nfigures\ndocuments\nglossary\n"
            "laboratory\napi\n```",
        ]
    )


def figures_page(book: Book) -> str:
    """All living figures on one page."""
    translate = book.translate("book")
    parts = [f"# {translate('Living figures')}"]
    parts.append(
        translate(
            "Each of these runs a GPT in the page, the same weights as in the lessons. It was written by hand for this "
            "course, in plain JavaScript: [the model](source/page/gpt), [its training](source/page/train), [the "
            "tokenizer](source/page/tokenizer), [sampling](source/page/sampling)."
        )
    )
    for figure in living.FIGURES:
        parts.append(f"## {book.translate(figure.lesson)(figure.title)}")
        number = figure.lesson
        parts.append(f"{translate('From')} [{translate('lesson')} {number}]({lesson_page(number)}).")
        parts.append(prose.raw(living.html(figure, book.numbers[figure.name], book.translate(number), translate)))
    names = ("gpt", "train", "tokenizer", "sampling", "files")
    parts.append("```{toctree}\n:hidden:\n\n" + "\n".join(f"source/page/{name}" for name in names) + "\n```")
    return "\n\n".join(parts) + "\n"


def script_page(name: str) -> str:
    """The source of one of the page's own scripts."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers.javascript import JavascriptLexer

    text = (living.PAGE / "model" / f"{name}.js").read_text(encoding="utf-8")
    html = highlight(text, JavascriptLexer(), HtmlFormatter(nowrap=True))
    box = f'<div class="highlight-js notranslate package-code"><div class="highlight"><pre>{html}</pre></div></div>'
    return f"# {name}.js\n\n{prose.raw(box)}\n"


def documents_page(book: Book) -> str:
    """From the documents' sections to the steps that treat them."""
    words = book.translate("book")
    present = {found.number for found in book.lessons}
    every = [step for step in index.steps() if step.lesson in present]
    parts = [
        f"# {words('From the documents to the steps')}",
        words(
            "The lessons mirror five documents. This index says which step of which lesson treats a section; 9.4 is "
            "the fourth step of lesson 9."
        ),
    ]
    for document, title in documents.TITLES.items():
        rows = [f"| § | {words('section')} | {words('lesson and step')} |", "|---|---|---|"]
        for section, name in documents.CONTENTS[document].items():
            links = [
                f"[{step.lesson}.{step.number}](#lesson-{step.lesson}-step-{step.number})"
                for step in every
                if documents.Reference(document, section, "") in step.cites
            ]
            below = words("in the sections below") if index.treating(document, section, every) else "–"
            rows.append(f"| {section} | {name} | {' '.join(links) or below} |")
        parts += [f"## {document} 《{title}》", "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


def glossary_page(book: Book) -> str:
    """Chinese, English, symbol."""
    words = book.translate("book")
    rows = "".join(
        f'<tr><td lang="zh">{term.chinese}</td><td>{escape(term.english)}</td>'
        f"<td>{tex.shown(term.symbol) if term.symbol else ''}</td><td>{escape(words(term.meaning))}</td>"
        f'<td><a href="{lesson_page(term.lesson)}.html">{term.lesson}</a></td></tr>'
        for term in sorted(glossary.terms(), key=lambda term: term.english.lower())
    )
    heads = "".join(
        f'<th scope="col">{head}</th>'
        for head in ("中文", "English", words("symbol"), words("meaning"), words("lesson"))
    )
    return (
        f"# {words('Glossary')}\n\n{words('The Chinese terms are those of the five documents.')}\n\n"
        + prose.raw(
            f'<div class="table-wrapper"><table class="glossary"><thead><tr>{heads}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
        )
        + "\n"
    )


def laboratory_page(book: Book) -> str:
    """The laboratory's own report; its rows can be downloaded."""
    words = book.translate("book")
    text = (ROOT / "data" / "lab" / "README.md").read_text(encoding="utf-8")
    translate = book.translate("laboratory")
    text = re.sub(r"^## (\w+)$", r"(\1)=\n\n## \1", text, flags=re.MULTILINE)  # links go to the English name
    text = translated(text, translate, whole=True).replace("$", r"\$")
    if translate.catalogue == {}:
        head, _, rest = text.partition("\n")
        text = f"{head}\n\n{prose.raw(_remark(words('This page is not translated yet.')))}\n{rest}"
    return text + f"\n\n{words('All rows:')} {{download}}`rows.jsonl <rows.jsonl>`\n"


def _remark(text: str) -> str:
    return f'<p class="path">{escape(text)}</p>'


def api_page(book: Book) -> str:
    """The library's modules in the order in which to read them, with what each offers."""
    words = book.translate("book")
    parts = [
        f"# {words('The library, in reading order')}",
        *_in_english(words),
        prose.markdown(ast.get_docstring(book.package.modules[code.PACKAGE].tree)),
    ]
    pages: list[str] = []

    def add(module: code.Module) -> None:
        pages.append(source_page(module.name))
        short = module.name.removeprefix(code.PACKAGE + ".")
        first = (ast.get_docstring(module.tree) or "").split("\n")[0]
        rows = "".join(
            f'<tr><td><a href="{source_page(module.name)}.html#{node.name}"><code>{node.name}</code></a></td>'
            f"<td>{prose.inline_html((ast.get_docstring(node) or '').split(chr(10))[0])}</td></tr>"
            for node in module.tree.body
            if isinstance(node, code.Definition) and not node.name.startswith("_")
        )
        parts.append(f"### [{short}]({source_page(module.name)})\n\n{tex.inline(first)}")
        if rows:
            parts.append(prose.raw(f'<table class="api"><tbody>{rows}</tbody></table>'))

    modules = book.package.modules
    reading_order = (
        ("models", words("The three architectures; begin with attention.")),
        ("text", words("Tokenizer, corpora, batches.")),
        ("training", words("Losses, and the one training loop.")),
        ("generation", words("Sampling and beam search.")),
        ("tuning", words("Every method that goes onto a frozen base, one file each.")),
    )
    for folder, what in reading_order:
        parts.append(f"## {folder}\n\n{what}")
        inside = [m for name, m in modules.items() if name.startswith(f"{code.PACKAGE}.{folder}")]
        for module in sorted(inside, key=_order):
            add(module)
    parts.append(f"## {words('Beside them')}")
    for name, module in modules.items():
        if name.count(".") == 1 and module.path.stem != "__init__":
            add(module)
    parts.append(f"## {words('The machine around the lessons')}")
    course = [m for n, m in modules.items() if n.startswith(f"{code.PACKAGE}.course")]
    rows = ""
    for module in course:
        name = module.name.removeprefix(code.PACKAGE + ".")
        name = f'<a href="{source_page(module.name)}.html">{name}</a>' if book.has_page(module.name) else name
        first = prose.inline_html((ast.get_docstring(module.tree) or "").split("\n")[0])
        rows += f"<tr><td>{name}</td><td>{first}</td></tr>"
    parts.append(prose.raw(f'<table class="api"><tbody>{rows}</tbody></table>'))
    parts.append("```{toctree}\n:hidden:\n\n" + "\n".join([*pages, source_page(code.PACKAGE)]) + "\n```")
    return "\n\n".join(parts) + "\n"


FIRST = (
    "attention",
    "cache",
    "layers",
    "gpt",
    "bert",
    "seq2seq",
    "tokenizer",
    "corpora",
    "losses",
    "loop",
    "sampling",
    "method",
)


def _order(module: code.Module) -> tuple[int, str]:
    """A folder's own page first, then what the others need, then the rest by name."""
    last = module.name.rpartition(".")[2]
    if module.path.name == "__init__.py":
        return -1, module.name
    return (FIRST.index(last) if last in FIRST else len(FIRST)), module.name
