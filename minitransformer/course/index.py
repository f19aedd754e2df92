"""Which step of which lesson treats which section of the documents, and back: read off the lessons' own references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from minitransformer.course.documents import CONTENTS, TITLES, Reference, find, references
from minitransformer.course.lessons import ROOT, lessons
from minitransformer.course.output.terminal import styled
from minitransformer.files import write_aside

PAGE = "lessons/INDEX.md"


class Step(NamedTuple):
    """A step of a lesson, and the sections that its prose and code cite, each once, in their order."""

    lesson: int
    number: int
    title: str
    path: str  # of the lesson, from the repository's root
    cites: tuple[Reference, ...]


def steps() -> list[Step]:
    """Every step of every lesson."""
    found = []
    for lesson in lessons():
        parts: list[tuple[int, str, list[str]]] = []
        for cell in lesson.cells:
            if cell.title:
                parts.append((cell.number, cell.title, [cell.title]))
            if parts:
                parts[-1][2].append(cell.source if cell.is_code else cell.prose)
        for number, title, texts in parts:
            cites = dict.fromkeys(Reference(one.document, one.section, "") for one in references("\n".join(texts)))
            found.append(Step(lesson.number, number, title, lesson.path.relative_to(ROOT).as_posix(), tuple(cites)))
    return found


def treating(document: str, section: str | None, every: Sequence[Step]) -> list[Step]:
    """The steps that cite a section, or one below it; of a whole document where no section is named."""

    def inside(one: Reference) -> bool:
        return one.document == document and (
            section is None or one.section == section or one.section.startswith(f"{section}.")
        )

    return [step for step in every if any(inside(one) for one in step.cites)]


def untreated(every: Sequence[Step]) -> list[str]:
    """The sections that no step treats, as `000 §7`; a heading counts as treated where a section below it is."""
    return [
        f"{document} §{section}"
        for document, sections in CONTENTS.items()
        for section in sections
        if not treating(document, section, every)
    ]


def print_steps(words: str) -> None:
    """Print the steps that treat a section (`make lessons ARGS="003 §4.2"`).

    Raises:
        UserError: no such document or section.
    """
    document, section = find(words)
    title = TITLES[document] if section is None else CONTENTS[document][section]
    print(styled(f"{document}{'' if section is None else f' §{section}'}  {title}", "bold"))
    found = treating(document, section, steps())
    for step in found:
        print(f"  lesson {step.lesson}, step {step.number}: {step.title}")
    if found:
        print(f"\nmake lesson-{found[0].lesson} runs the first of them.")
    else:
        print("  No step of a lesson treats it.")


def page() -> str:
    """The index as a page of Markdown."""
    every = steps()
    lines = [
        "# From the documents to the lessons, and back",
        "",
        "Written by `python -m minitransformer lessons --index` from the references in the lessons; do not edit.",
        '`make lessons ARGS="003 §4.2"` prints the steps that treat one section.',
    ]
    for document, sections in CONTENTS.items():
        lines += ["", f"## {document} 《{TITLES[document]}》", "", "| Section | Lesson and step |", "|---|---|"]
        for section, title in sections.items():
            own = [step for step in every if Reference(document, section, "") in step.cites]
            told = "; ".join(f"[{step.lesson}.{step.number}]({_link(step)}) {step.title}" for step in own)
            below = "in the sections below" if treating(document, section, every) else "–"
            name = f"§{section} {title}" if document != "002" else title  # whose sections have no numbers
            lines.append(f"| {name} | {told or below} |")
    lines += ["", "## From the lessons", "", "| Lesson and step | Sections |", "|---|---|"]
    lines += [
        f"| [{step.lesson}.{step.number}]({_link(step)}) {step.title} | {', '.join(map(str, step.cites))} |"
        for step in every
        if step.cites
    ]
    return "\n".join(lines) + "\n"


def _link(step: Step) -> str:
    return step.path.removeprefix("lessons/")


def write_page() -> None:
    """Write the page beside the lessons."""
    write_aside(ROOT / PAGE, page().encode())
