"""Every lesson as a notebook that already has its outputs, from the record, and its formulas as $TeX$.

`course/notebook.py` makes the cells. Here they get what the lesson printed, so that a page that only shows notebooks
shows all of it, and a first cell that also works on a hosted service, where the course is not installed yet.
"""

from __future__ import annotations

import base64
import re
from html import escape
from pathlib import Path
from typing import Any

from minitransformer.course import notebook
from minitransformer.course.book import tex
from minitransformer.course.bootstrap import ROOT
from minitransformer.course.lessons import Lesson
from minitransformer.course.record import Record
from minitransformer.course.translation.blocks import blocks


def repository() -> str | None:
    """The course's address, from [project.urls] in pyproject.toml, the one place for it; None while it has none."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = re.search(r"^\[project\.urls\]\n(.*?)(?=^\[|\Z)", text, re.M | re.S)
    found = re.search(r'^Repository\s*=\s*"([^"]+)"', section[1], re.M) if section else None
    return found[1] if found else None


def setup_cell(address: str | None) -> str:
    """The first cell: find the course above the notebook, or fetch and install it."""
    fetch = 'raise SystemExit("Put this notebook into the course\'s folder, or into a folder inside it.")'
    if address:
        fetch = (
            f"get_ipython().system('git clone --depth 1 {address} minitransformer-course')\n"
            "    get_ipython().run_line_magic('cd', 'minitransformer-course')\n"
            "    get_ipython().run_line_magic('pip', 'install --quiet -e .[course]')\n"
            "    course = Path.cwd()"
        )
    return (
        "import sys\nfrom pathlib import Path\n\n"
        "folders = [Path.cwd(), *Path.cwd().parents]\n"
        'course = next((f for f in folders if (f / "minitransformer" / "course").is_dir()), None)\n'
        f"if course is None:\n    {fetch}\n"
        "sys.path.insert(0, str(course))"
    )


def with_outputs(lesson: Lesson, record: Record | None) -> Any:
    """The lesson as a notebook; what its code showed stands below it.

    Args:
        lesson: which.
        record: one that fits it, or None for a notebook without outputs.
    """
    made = notebook.as_notebook(lesson)
    position = 2  # behind the title and the first cell
    made.cells[1].source = setup_cell(repository())
    outcomes = iter(record.cells) if record else None
    for cell in lesson.cells:
        if not cell.is_code:
            made.cells[position].source = markdown(made.cells[position].source)
            position += 1
            continue
        n_parts = len(list(notebook.parts(cell)))
        if outcomes is not None:
            events = next(outcomes).events
            made.cells[position + n_parts - 1].outputs = [_output(event, record.folder) for event in events]
        position += n_parts
    return made


def write_all(lessons: list[Lesson], records: dict[int, Record], folder: Path) -> None:
    """Write lesson_NN_….ipynb for each lesson."""
    import nbformat

    folder.mkdir(parents=True, exist_ok=True)
    for lesson in lessons:
        made = with_outputs(lesson, records.get(lesson.number))
        (folder / f"{lesson.path.stem}.ipynb").write_text(nbformat.writes(made) + "\n", encoding="utf-8")


def markdown(text: str) -> str:
    """A cell of prose with its formulas as $…$ and $$…$$."""
    parts: list[str] = []
    for block in blocks(text):
        match block.kind:
            case "paragraph":
                parts.append(tex.inline(block.text))
            case "item":
                parts.append(block.mark + tex.inline(block.text))
            case "indented":
                parts.append(_formula(block.text))
            case "heading":
                parts.append(block.mark + block.text)
            case "quote":
                parts.append("\n".join("> " + line for line in block.text.split("\n")))
            case _:
                parts.append(block.text)
    return "\n\n".join(parts)


def _formula(text: str) -> str:
    rows = tex.display(text.split("\n")) if "\n\n" not in text else None
    if rows is None:
        return "\n".join("    " + line for line in text.split("\n"))
    lines = [r" \qquad ".join(part if kind == "tex" else rf"\text{{{part}}}" for kind, part in row) for row in rows]
    if len(lines) == 1:
        return f"$$\n{lines[0]}\n$$"
    return "$$\n\\begin{array}{l}\n" + " \\\\\n".join(lines) + "\n\\end{array}\n$$"


def _output(event: dict[str, Any], folder: Path) -> Any:
    from nbformat import v4

    def shown(data: dict[str, Any]) -> Any:
        return v4.new_output("display_data", data=data)

    match event["kind"]:
        case "say":
            return shown({"text/markdown": event["text"], "text/plain": event["text"]})
        case "verbatim":
            return v4.new_output("stream", name="stdout", text=event["text"] + "\n")
        case "table":
            return shown({"text/html": _table(event), "text/plain": _plain(event)})
        case "source":
            return shown({"text/markdown": f"```python\n{event['code']}\n```", "text/plain": event["code"]})
        case _:
            content = (folder / event["file"]).read_bytes()
            kind = Path(event["file"]).suffix[1:]
            if kind == "svg":
                data = {"image/svg+xml": content.decode()}
            else:
                data = {"image/png": base64.b64encode(content).decode()}
            return shown({**data, "text/plain": event["alt"]})


def _text(cell: Any) -> str:
    return cell if isinstance(cell, str) else cell["text"]


def _table(table: dict[str, Any]) -> str:
    sides = [' style="text-align: right"' if right else ' style="text-align: left"' for right in table["right"]]
    head = "".join(f"<th{side}>{escape(h)}</th>" for h, side in zip(table["headers"], sides, strict=True))
    rows = "".join(
        "<tr>" + "".join(f"<td{side}>{escape(_text(c))}</td>" for c, side in zip(row, sides, strict=True)) + "</tr>"
        for row in table["rows"]
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _plain(table: dict[str, Any]) -> str:
    return "\n".join("\t".join(map(_text, row)) for row in [table["headers"], *table["rows"]])
