"""The report of a job, one page of HTML that needs nothing beside it."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minitransformer.files import write_aside

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #8888; padding: .3rem .6rem; text-align: left; vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; background: #fff; border-radius: .3rem; } figure svg { max-width: 100%; height: auto; }
code { font-size: .95em; }
"""


def write_report(path: Path, about: Mapping[str, Any]) -> None:
    """Write what came of a job: its test scores, the loss curve, examples before and after, what was trained and kept.

    Raises:
        UserError: no room on the disk, or no permission to write.
    """
    job = about["job"]
    splits = {name: len(rows) for name, rows in about["rows"].items()}
    share = about["stored"] / about["base_parameters"]
    parts = [
        f"<h1>{_text(job['task'].capitalize())} by {_text(job['method'])}</h1>",
        f"<p>{splits['train']} rows of <code>{_text(job['data'])}</code> were learned from, {splits['valid']} chose "
        f"the best step, and {splits['test']} tested it. The splits come from the seed {job['seed']}.</p>",
        "<h2>On the test rows</h2>",
        _table(["measure", "value"], [[name, f"{value:.4g}"] for name, value in about["test"].items()]),
        "<h2>What was trained, and what is kept</h2>",
        _table(
            ["", "parameters"],
            [
                ["the base, frozen" if job["method"] != "full" else "the base", f"{about['base_parameters']:,}"],
                ["trained", f"{about['trained']:,}"],
                ["kept in tuned.safetensors", f"{about['stored']:,} ({share:.2%} of the base)"],
            ],
        ),
        "<h2>The loss while it was trained</h2>",
        f"<figure role='img' aria-label='Training and validation loss by step'>{_curve(about['log'])}</figure>",
        f"<p>The weights of step {about['log']['best_step']} were kept: their validation loss was the lowest. Learning "
        f"rate {about['lr']:g}; {about['log']['seconds']:.0f} seconds.</p>",
    ]
    if about.get("search"):
        rows = [[rate, f"{loss:.4f}"] for rate, loss in about["search"].items()]
        parts += ["<h2>The search for the learning rate</h2>", _table(["rate", "validation loss"], rows)]
    examples = about["examples"]
    if examples:
        names = [name for name in examples[0] if name not in ("before", "after")]
        names += [name for name in ("before", "after") if name in examples[0]]
        parts += ["<h2>Test examples</h2>", _table(names, [[one[name] for name in names] for one in examples], False)]
    if about["refused"]:
        rows = "".join(f"<li>{_text(one)}</li>" for one in about["refused"])
        parts += [f"<h2>Rows that were left out or cut</h2><ul>{rows}</ul>"]
    page = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' "
        f"content='width=device-width'><title>{_text(job['task'])} by {_text(job['method'])}</title>"
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
    write_aside(path, page.encode())


def _text(value: object) -> str:
    return html.escape(str(value))


def _table(names: list[str], rows: list[list[Any]], numbers: bool = True) -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in names)
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=n' if numbers and i else ''}>{_text(cell)}</td>" for i, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _curve(log: Mapping[str, Any]) -> str:
    """The two curves as SVG."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(7, 3.2), layout="constrained")
    axes = drawing.subplots()
    axes.plot(*zip(*log["train"], strict=True), color="#56B4E9", linewidth=1, label="training")
    if log["valid"]:
        axes.plot(*zip(*log["valid"], strict=True), "o-", color="#D55E00", label="validation")
    axes.set(xlabel="step", ylabel="loss, nats")
    axes.legend(frameon=False)
    file = io.StringIO()
    drawing.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]
