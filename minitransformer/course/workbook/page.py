"""An exercise and its hints as text to read."""

from __future__ import annotations

import textwrap

from minitransformer.course.workbook.exercise import Exercise


def laid_out(hint: str) -> list[tuple[bool, str]]:
    """The blocks of a hint in order, (whether it is code, text): code is what authors indent by four spaces.

    Code loses these four spaces and nothing else; empty lines between two lines of code belong to it.
    """
    blocks: list[tuple[bool, list[str]]] = []
    for line in hint.strip("\n").split("\n"):
        is_code = line.startswith("    ") if line.strip() else bool(blocks) and blocks[-1][0]
        if not blocks or blocks[-1][0] != is_code:
            blocks.append((is_code, []))
        blocks[-1][1].append(line.removeprefix("    ") if is_code else line)
    return [(is_code, "\n".join(lines).strip("\n")) for is_code, lines in blocks if any(map(str.strip, lines))]


def page(exercise: Exercise) -> str:
    """The exercise as a page in Markdown: what to write, hints and solution folded away."""
    hints = [
        "\n\n".join(
            [
                f"<details><summary>Hint {n}</summary>",
                *(f"```python\n{text}\n```" if is_code else text for is_code, text in laid_out(hint)),
                "</details>",
            ]
        )
        for n, hint in enumerate(exercise.hints, 1)
    ]
    solution = f"<details><summary>Solution</summary>\n\n```python\n{exercise.cut.solution}\n```\n\n</details>"
    return "\n\n".join(
        [
            f"### {exercise.id} · {exercise.title}",
            f"`{exercise.name}` · {exercise.minutes:g} minutes · {exercise.stars}",
            textwrap.fill(exercise.purpose, 100),
            f"```python\n{exercise.cut.stub}\n```",
            f"`make start-{exercise.lesson}` puts this into your workbook; `make check-{exercise.id}` checks it.",
            *hints,
            solution,
        ]
    )
