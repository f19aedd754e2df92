"""A notebook as a reader: Markdown, HTML tables, figures inline."""

from __future__ import annotations

import io
from html import escape
from typing import Any

from minitransformer.course.figures import picture
from minitransformer.course.output.events import Bar, Event, Figure, Say, Sink, Source, Table, Verbatim
from minitransformer.course.output.terminal import layout

RIGHT, LEFT = ' style="text-align: right"', ' style="text-align: left"'


class Notebook(Sink):
    """Shows events as the outputs of the cell that runs in a Jupyter kernel."""

    def show(self, event: Event) -> None:
        """Display an event."""
        from IPython.display import Image, Markdown, display

        match event:
            case Say(text):
                display(Markdown(text))
            case Verbatim(text):
                print(text)  # the kernel sets what is printed in one block, with a fixed width
            case Table():
                display({"text/html": as_html(event), "text/plain": layout(event)}, raw=True)
            case Source(_, code):
                display(Markdown(f"```python\n{code}\n```"))
            case Figure(_, _, caption, alt):
                width = round(96 * event.drawing.get_figwidth())  # the file has more pixels, for sharp screens
                display(Image(picture(event.drawing, "png"), format="png", width=width, alt=alt))
                display(Markdown(caption))

    def progress(self) -> Line:
        """A line of its own among the outputs of the cell: standard error would look like a fault."""
        return Line()


class Line(io.StringIO):
    """One output of a cell that is written over: the place of a bar that says how far a loop is."""

    def __init__(self) -> None:
        super().__init__()
        self._handle: Any = None  # of the output, once there is one

    def write(self, text: str) -> int:
        """Put this in the place of what stands there; spaces alone empty it."""
        from IPython.display import display

        shown = text.strip("\r\n")  # a bar begins with a carriage return, and ends with a new line
        if self._handle is not None and shown:
            self._handle.update({"text/plain": shown.rstrip()}, raw=True)
        elif shown.strip():
            self._handle = display({"text/plain": shown}, raw=True, display_id=True)
        return len(text)

    def isatty(self) -> bool:
        """It can be written over, as a terminal's line can."""
        return True


def as_html(table: Table) -> str:
    """A table as HTML; its bars are drawn."""
    sides = [RIGHT if right else LEFT for right in table.right]
    head = "".join(f'<th scope="col"{s}>{escape(h)}</th>' for h, s in zip(table.headers, sides, strict=True))
    body = []
    for row in table.rows:
        cells = (f"<td{s}>{_cell(cell)}</td>" for cell, s in zip(row, sides, strict=True))
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _cell(cell: str) -> str:
    if isinstance(cell, Bar):
        return f'<div style="width: {12 * cell.fraction:.2f}em; height: 0.8em; background: #0072B2"></div>'
    return escape(cell)
