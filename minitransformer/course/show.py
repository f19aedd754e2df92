"""What lessons print with: wrapped prose, tables, small bars, figures in one style.

Importing this costs nothing: matplotlib is loaded only when a figure is drawn.
"""

import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from minitransformer.errors import UserError

ROOT = Path(__file__).resolve().parent.parent.parent


def switched_on(variable: str) -> bool:
    """Whether an environment variable such as QUICK=1 is set to something other than nothing or 0."""
    return os.environ.get(variable, "") not in ("", "0")


QUICK: bool = switched_on("QUICK")
"""True when a lesson should only be smoke-tested: `QUICK=1 make lesson-3` or `… lesson 3 --quick`."""


# ---------------------------------------------------------------- text

ANSI = {"bold": "1", "dim": "2", "cyan": "36", "green": "32"}
WIDE = "\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60"
CLOSING = "，。、；：！？）》」』】,.;:!?)\\]"


def styled(text: str, style: str) -> str:
    """`text` in "bold", "dim", "cyan" or "green" on a terminal; unchanged elsewhere or with NO_COLOR set."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\033[{ANSI[style]}m{text}\033[0m"


def text_width() -> int:
    """Columns of running text: the terminal's, at most 88."""
    return max(20, min(88, shutil.get_terminal_size().columns))


def display_width(text: str) -> int:
    """Columns that `text` takes in a terminal: a Chinese character takes two, a combining accent none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def wrap(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Break a paragraph into lines of at most `width` columns.

    `code spans` stay whole; Chinese may break between any two characters, but not before its punctuation.
    The first line starts with `first` (a list item's "- "), the others with `rest`.
    """
    lines, line = [], first
    for word in re.findall(r"(?:`[^`]*`|[^\s`]|`)+", text):
        # A word stays in one piece, unless it holds Chinese outside of a code span.
        pieces = [word] if "`" in word else re.findall(rf"[{WIDE}][{CLOSING}]*|[^{WIDE}]+", word)
        for position, piece in enumerate(pieces):
            at_start = line in (first, rest)
            space = "" if at_start or position else " "
            if not at_start and display_width(line + space + piece) > width:
                lines.append(line)
                line, space = rest, ""
            line += space + piece
    return [*lines, line]


def _decorated(line: str) -> str:
    """On a terminal, `code` in colour and **bold** in bold."""
    line = re.sub(r"`[^`]+`", lambda match: styled(match[0], "cyan"), line)
    # As in Markdown, ** at a word's wrong end is none: f(**a, **b) stays as it is.
    return re.sub(r"(?<!\w)\*\*(?!\s)([^*]+)(?<![\s(,])\*\*", lambda match: styled(match[1], "bold"), line)


def say(text: str) -> None:
    """Print light markdown: paragraphs and list items wrapped, indented lines (formulas) as they are.

    Lessons use it for a sentence with a measured number in it: `say(f"The loss fell to {loss:.2f}.")`.
    """
    first = rest = ""  # what the lines of the block in hand start with
    block: list[str] = []

    def flush() -> None:
        if block:
            for line in wrap(" ".join(block), text_width(), first, rest):
                print(_decorated(line))
        block.clear()

    for line in text.strip("\n").splitlines():
        item = re.match(r"\s*(?:[-*•]|\d+[.)])\s+(?=\S)", line)
        if item:
            flush()
            first, rest = item[0], " " * len(item[0])
            block.append(line[len(first) :])
        elif not line.strip():
            flush()
            print()
        elif block and rest and line.startswith(rest) and line[len(rest)] != " ":
            block.append(line.strip())  # the item goes on
        elif line[0] in " \t|#":
            flush()
            print(_decorated(line.rstrip()))
        else:
            if rest:
                flush()
            if not block:
                first = rest = ""
            block.append(line.strip())
    flush()


def _not_withheld(function: Any) -> str | None:
    return None


withheld: Callable[[Any], str | None] = _not_withheld
"""What `source` prints in place of a function that the reader is to write first; None where there is no such reason.

The command line sets it: nothing here knows of exercises.
"""


def source(function: Any, docstring: bool = True) -> None:
    """Print a function's source, or why it is not shown yet.

    Args:
        function: a function or a method.
        docstring: whether its docstring is printed, or only that there is one.
    """
    import inspect

    if (reason := withheld(function)) is not None:
        say(f"{reason}\n")
        return
    text = inspect.getsource(function)
    print(text if docstring else re.sub(r'""".*?"""', '"""…"""', text, count=1, flags=re.DOTALL))


# ---------------------------------------------------------------- tables and bars


def format_table(
    rows: Sequence[Sequence[Any]],
    headers: Sequence[str],
    formats: Sequence[str | Callable[[Any], str] | None] | None = None,
) -> str:
    """Lay out rows under headers: numbers to the right, text to the left, Chinese counted as two columns.

    Args:
        rows: one sequence of values per row, as long as `headers`.
        headers: the columns' names.
        formats: for each column a format such as ".3f" or ",", a function to a string, or None (str; floats
            with four significant digits).

    Raises:
        UserError: a row or `formats` has another length than `headers`.
    """
    formats = formats or [None] * len(headers)
    if len(formats) != len(headers):
        raise UserError(f"The table has {len(headers)} headers, {len(formats)} formats; give one for each.")

    def cell(value: Any, form: str | Callable[[Any], str] | None) -> str:
        if callable(form):
            return form(value)
        if isinstance(value, str):
            return value
        if value is None:
            return "–"
        return format(value, form or (".4g" if isinstance(value, float) else ""))

    lines = [list(headers)]
    right = [True] * len(headers)
    for number, row in enumerate(rows, 1):
        if len(row) != len(headers):
            raise UserError(f"Row {number} of the table has {len(row)} values for {len(headers)} headers.")
        lines.append([cell(value, form) for value, form in zip(row, formats, strict=True)])
        right = [r and not isinstance(value, str) for r, value in zip(right, row, strict=True)]
    widths = [max(display_width(line[column]) for line in lines) for column in range(len(headers))]

    def laid_out(line: Sequence[str]) -> str:
        padded = []
        for text, width, to_right in zip(line, widths, right, strict=True):
            gap = " " * (width - display_width(text))
            padded.append(gap + text if to_right else text + gap)
        return "  ".join(padded).rstrip()

    rule = "  ".join("─" * width for width in widths)
    return "\n".join([laid_out(lines[0]), rule, *map(laid_out, lines[1:])])


def table(
    rows: Sequence[Sequence[Any]],
    headers: Sequence[str],
    formats: Sequence[str | Callable[[Any], str] | None] | None = None,
) -> None:
    """Print rows under headers; see `format_table`."""
    print(format_table(rows, headers, formats))


def bar(value: float, largest: float = 1.0, width: int = 30) -> str:
    """A bar of text, `width` columns at `largest`, to an eighth of a column: `bar(0.5, width=4)` is "██"."""
    if largest <= 0:
        raise UserError(f"bar() needs a largest value above 0, not {largest}.")
    eighths = round(8 * width * min(max(value / largest, 0.0), 1.0))
    return "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]


# ---------------------------------------------------------------- figures

# The palette of Okabe and Ito, which colour-blind readers can tell apart.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]


@lru_cache
def chinese_font() -> str | None:
    """The name of an installed font that can draw Chinese, or None: then label the figure in English."""
    from matplotlib import font_manager, ft2font

    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: (font.name, font.fname)):
        try:
            face = ft2font.FT2Font(font.fname)
        except (OSError, RuntimeError):  # a font file that has gone or that FreeType cannot read
            continue
        glyphs = {face.get_char_index(ord(char)) for char in "前缀微调"}
        # Glyph 0 is the empty box; matplotlib's own font of last resort has one box for all of Chinese.
        if 0 not in glyphs and len(glyphs) == 4:
            return font.name
    return None


def _style() -> dict[str, Any]:
    from matplotlib.rcsetup import cycler

    return {
        "axes.prop_cycle": cycler(color=PALETTE),
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 12,
        "axes.labelsize": 11,
        "font.size": 11,
        "font.family": ["DejaVu Sans", *filter(None, [chinese_font()])],
        "grid.color": "#E3E3E3",
        "image.cmap": "viridis",
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "savefig.dpi": 150,
    }


@contextmanager
def _drawing(path: Path, caption: str, size: tuple[float, float], rows: int, columns: int) -> Iterator[Any]:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_style()):
        drawing = Figure(figsize=size, layout="constrained")
        yield drawing.subplots(rows, columns)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            drawing.savefig(aside, format="png")
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    say(f"Figure saved: {path.relative_to(ROOT).as_posix()} — {caption}")


def figure(name: str, caption: str, size: tuple[float, float] = (7.0, 4.0), rows: int = 1, columns: int = 1) -> Any:
    """Draw a figure of a lesson, save it, and say where: figures/lesson_NN/name.png.

        with figure("loss", "The loss falls while the model trains.") as axes:
            axes.plot(steps, losses)

    Args:
        name: the file's name without ".png".
        caption: a sentence that says what the reader sees.
        size: width and height in inches.
        rows, columns: of a grid of axes. 1 × 1 gives one matplotlib Axes, more give an array of them;
            the figure itself is `axes.figure`.

    Nothing is saved when the block raises.
    """
    if not re.fullmatch(r"[\w-]+", name):
        raise UserError(f"A figure's name is letters, digits, - and _, not {name!r}.")
    # The lesson is the file that calls; in a notebook there is none.
    caller = Path(sys._getframe(1).f_globals.get("__file__") or "notebook")
    lesson = re.match(r"lesson_\d+", caller.stem)
    folder = lesson[0] if lesson else caller.stem
    return _drawing(ROOT / "figures" / folder / f"{name}.png", caption, size, rows, columns)
