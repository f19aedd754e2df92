"""The built site in a browser: from disk and from a server, whole, searchable, narrow; and its living figures."""

import functools
import http.server
import json
import os
import re
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from minitransformer.course.book import living, living_record

pytestmark = pytest.mark.book

NARROW = {"width": 360, "height": 740}
WIDE = {"width": 1280, "height": 900}


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The English book, built once; or BOOK_SITE=build/book/en, one that is built already."""
    if built := os.environ.get("BOOK_SITE"):
        return Path(built).resolve()
    pytest.importorskip("sphinx", reason="make book-test installs what the book is built with")
    from minitransformer.course.book import site as builder

    return builder.build(tmp_path_factory.mktemp("book")).parent


@pytest.fixture(scope="session")
def pages(site):
    return sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))


@pytest.fixture(scope="session")
def server(site):
    """The site's address on a plain server of static files."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def page(browser):
    """A page that notes every request to elsewhere and every error."""
    context = browser.new_context(viewport=WIDE)
    page = context.new_page()
    page.wrong = []
    page.on("console", lambda message: message.type == "error" and page.wrong.append(message.text))
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("request", lambda request: not _is_own(request.url) and page.wrong.append(f"asks {request.url}"))
    yield page
    context.close()


def _is_own(url):
    return url.startswith(("file:", "data:", "blob:", "http://127.0.0.1"))


class Links(HTMLParser):
    """The addresses and the ids of a page."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        self.addresses += [values[name] for name in ("href", "src") if values.get(name)]


# ---------------------------------------------------------------- every page


def test_every_link_resolves_and_none_loads_from_outside(site, pages):
    read = {name: Links((site / name).read_text(encoding="utf-8")) for name in pages}
    wrong = []
    for name, links in read.items():
        for address in links.addresses:
            parts = urlsplit(address)
            if parts.scheme in ("http", "https", "mailto", "data"):
                continue
            target = (site / name).parent / unquote(parts.path) if parts.path else site / name
            if not target.exists():
                wrong.append(f"{name}: {address}")
            elif parts.fragment and target.suffix == ".html":
                where = target.resolve().relative_to(site.resolve()).as_posix()
                if where in read and unquote(parts.fragment) not in read[where].ids:
                    wrong.append(f"{name}: {address} (no such place)")
    assert len(read) > 60
    assert not wrong, "\n".join(wrong[:30])


def test_no_formula_failed(site, pages):
    texts = {name: (site / name).read_text(encoding="utf-8") for name in pages}
    assert sum(text.count("katex-html") for text in texts.values()) > 300
    assert not [name for name, text in texts.items() if "katex-error" in text or 'class="unset"' in text]


def test_it_is_small(site):
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 25e6


CHOSEN = ["index.html", "lessons/lesson_02.html", "lessons/lesson_09.html", "figures.html", "glossary.html"]
CHOSEN += ["documents.html", "laboratory.html", "api.html", "source/minitransformer.models.attention.html"]


@pytest.mark.parametrize("name", CHOSEN)
@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
def test_pages_open_from_disk(site, page, name, size):
    page.set_viewport_size(size)
    page.goto((site / name).as_uri())
    page.wait_for_load_state("load")
    assert page.wrong == []
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    without = page.evaluate("Array.from(document.images).filter((i) => !i.alt).length")
    assert without == 0


@pytest.mark.parametrize("words", ["reparametrisation", "attention mask", "perplexity", "LoRA", "beam search"])
def test_english_search(site, page, words):
    _search(site.as_uri(), page, words)


@pytest.mark.parametrize("words", ["前缀微调", "注意力", "词元", "重参数化", "低秩适配"])
def test_chinese_search(site, page, words):
    _search(site.as_uri(), page, words)


def test_search_from_a_server(server, page):
    _search(server, page, "前缀")


def _search(address, page, words):
    page.goto(f"{address}/search.html?q={words}")
    page.wait_for_selector("ul.search li a", timeout=60_000)
    assert page.locator("ul.search li a").count() >= 1
    assert page.wrong == []


def test_nonsense_is_not_found(site, page):
    page.goto(f"{site.as_uri()}/search.html?q=鐵木龜")
    page.wait_for_function("document.querySelector('#search-results').innerText.includes('did not match')")


def test_a_name_in_code_leads_to_its_source_and_back(site, page):
    page.goto((site / "lessons/lesson_02.html").as_uri())
    page.locator("a.code-link", has_text="attend_by_formula").first.click()
    assert page.url.endswith("source/minitransformer.models.attention.html#attend_by_formula")
    assert page.locator("details.answer").first.get_attribute("open") is None  # solutions are folded
    page.locator("p.used a", has_text=re.compile("^2$")).first.click()
    assert page.url.endswith("lessons/lesson_02.html")
    assert page.wrong == []


def test_the_link_to_another_language_leads_to_the_heading_that_is_read(site, page):
    """The site of a test has one language, so the link leads to the page itself."""
    page.goto((site / "lessons/lesson_02.html").as_uri())
    page.evaluate(
        "document.querySelectorAll('.languages').forEach((old) => old.remove());"
        "document.querySelector('article').insertAdjacentHTML("
        "'afterbegin', '<p class=languages><a href=lesson_02.html>Other</a></p>')"
    )
    link = page.locator(".languages a")
    link.focus()
    assert link.evaluate("(a) => a.hash") == "", "at the top it leads to the page"
    near_the_top = f"""() => {{
        const top = document.querySelector('#lesson-2-step-4').getBoundingClientRect().top;
        return 0 <= top && top < {WIDE["height"] / 3};
    }}"""
    page.evaluate("document.querySelector('#lesson-2-step-4').scrollIntoView()")
    page.wait_for_function(near_the_top)  # the theme scrolls smoothly, and so takes a while
    link.evaluate("(a) => a.click()")  # a real click would scroll to the link first
    page.wait_for_function("location.hash.startsWith('#place-')")
    page.wait_for_function(near_the_top)
    assert page.evaluate("document.querySelector(location.hash).closest('section').id") == "lesson-2-step-4"
    assert page.wrong == []


# ---------------------------------------------------------------- living figures


@pytest.fixture(scope="session")
def numbers():
    return living.read(living_record.LIVING)


@pytest.fixture
def wake(site, page):
    """Open the page of all figures and wait until one is awake."""

    def open_it(name, address=None):
        page.goto((site / "figures.html").as_uri() if address is None else f"{address}/figures.html")
        figure = page.locator(f"figure[data-living={name}]")
        figure.scroll_into_view_if_needed()
        page.wait_for_selector(f"figure[data-living={name}].awake", timeout=60_000)
        return figure

    return open_it


def texts_of(locator):
    return " ".join(locator.inner_text().split())


def until(page, figure, selector, wanted):
    """Wait until an element of the figure says something."""
    page.wait_for_function(
        "([figure, selector, wanted]) => Array.from(figure.querySelectorAll(selector)).some("
        "(e) => e.innerText.replace(/\\s+/g, ' ').includes(wanted))",
        arg=[figure.element_handle(), selector, " ".join(wanted.split())],
        timeout=60_000,
    )


def test_switch(wake, page, numbers):
    figure = wake("switch")
    for name, text in numbers["switch"]["texts"].items():
        figure.get_by_role("radio", name=name, exact=True).check()
        until(page, figure, ".living-written", text)
    figure.get_by_role("radio", name="pirate").check()
    wanted = [f"{value:.2f}" for row in numbers["switch"]["lambda"] for value in row]
    until(page, figure, ".living-grid", wanted[0])
    found = figure.locator(".living-grid tbody td").all_inner_texts()
    assert all(abs(float(a) - float(b)) < 0.011 for a, b in zip(found, wanted, strict=True))
    assert page.wrong == []


def test_share(wake, page, numbers):
    figure = wake("share")
    for name, text in numbers["share"]["texts"].items():
        if name.startswith("×"):
            figure.locator("input[type=range]").fill(name.removeprefix("× "))
            until(page, figure, ".living-written", text)
    until(page, figure, ".living-written.plain", numbers["share"]["texts"]["without"])
    figure.locator("input[type=range]").fill("0")
    figure.get_by_role("checkbox").check()  # positions from 0: the plain base
    until(page, figure, ".living-facts", "Both texts are the same.")
    figure.locator("input[type=range]").fill("1")
    figure.get_by_role("checkbox").uncheck()
    until(page, figure, ".living-facts", f"λ = {numbers['share']['lambda']:.3f}")
    assert re.search(r"differ by at most \de-1\d", texts_of(figure))
    assert page.wrong == []


def test_train(wake, page, numbers):
    figure = wake("train")
    figure.get_by_role("button", name="Train").click()
    until(page, figure, ".living-facts", "Step 2:")
    for name in ("Pause", "Train on"):  # within one step: it goes on, and no second loop begins beside it
        figure.get_by_role("button", name=name).click()
    until(page, figure, ".living-facts", "Step 5:")
    step, loss = re.search(r"Step (\d+): loss ([\d.]+)", texts_of(figure)).groups()  # read at once: a step may end now
    assert float(loss) == pytest.approx(numbers["train"]["losses"][int(step) - 1], abs=2e-3)
    assert numbers["train"]["texts"]["after 0 steps"] in texts_of(figure)
    figure.get_by_role("button", name="Begin anew").click()
    assert "Not trained yet" in texts_of(figure)
    figure.locator("summary", has_text="pairs").click()
    figure.locator("textarea[aria-label='pair 1, plain']").fill("")
    figure.get_by_role("button", name="Train").click()
    until(page, figure, ".living-status", "Pair 1: Type a text")
    assert page.wrong == []


def test_attention(wake, page, numbers):
    figure = wake("attention")
    for name, weight in numbers["attention"]["bars"]:
        until(page, figure, ".living-bars", f"{name} {weight:.3f}")
    first = figure.locator(".living-token").first
    first.press("Enter")  # by keyboard: hide the first token
    page.wait_for_function("(e) => e.getAttribute('aria-pressed') === 'true'", arg=first.element_handle())
    rest = 1 - numbers["attention"]["row"][0]
    name, weight = numbers["attention"]["bars"][1]
    until(page, figure, ".living-bars", f"{name} {weight / rest:.3f}")  # the others keep their ratios
    assert page.wrong == []


def test_merges(wake, page, numbers):
    figure = wake("merges")
    for size, count in numbers["merges"]["counts"].items():
        figure.locator("input[type=range]").fill(size)
        until(page, figure, ".living-facts", f" {count} tokens")
    assert page.wrong == []


def test_sampling(wake, page, numbers):
    figure = wake("sampling")
    rows = [texts_of(row) for row in figure.locator("tbody tr").all()]
    wanted = [f"{name} {100 * p:.1f} % {100 * p:.1f} %" for name, p in numbers["sampling"]["bars"]]
    assert rows == wanted
    until(page, figure, ".living-facts", f"{numbers['sampling']['entropy']:.2f} bits")
    figure.get_by_label("Temperature").fill("0")
    until(page, figure, ".living-facts", "1 of 2,048 tokens can be drawn")
    figure.get_by_role("button", name="Draw five texts").click()
    page.wait_for_function(
        "(figure) => figure.querySelectorAll('.living-log li').length === 5",
        arg=figure.element_handle(),
        timeout=60_000,
    )
    assert page.wrong == []


def test_rank(wake, page, numbers):
    figure = wake("rank")
    for name, held in numbers["rank"]["bars"]:
        figure.locator("input[type=range]").fill(name.removeprefix("rank "))
        until(page, figure, ".living-facts", f"holds {100 * held:.1f} %")
    assert page.wrong == []


def test_singular_values_are_those_of_pytorch(wake, page):
    torch = pytest.importorskip("torch")
    wake("rank")
    matrix = torch.randn(12, 8, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    code = "(m) => MiniTransformer.singular(Float64Array.from(m), 12, 8)"
    found = page.evaluate(f"(m) => {{ const s = ({code})(m); return s.values; }}", matrix.flatten().tolist())
    assert (torch.tensor(found, dtype=torch.double) - torch.linalg.svdvals(matrix)).abs().max() < 1e-9


def test_from_a_server(wake, page, server, numbers):
    figure = wake("switch", server)
    until(page, figure, ".living-written", numbers["switch"]["texts"]["pirate"])
    assert page.wrong == []


BAD = {"emoji": "🙂👩‍👩‍👧‍👦", "nothing": "", "10,000 characters": "word " * 2_000, "Chinese": "前缀微调"}


@pytest.mark.parametrize("name", ["switch", "share", "attention", "merges", "sampling"])
def test_any_input_is_answered(wake, page, name):
    figure = wake(name)
    field = figure.locator("textarea").first
    for what, text in BAD.items():
        field.fill(text)
        if what in ("nothing", "10,000 characters"):
            wanted = "Type a text" if what == "nothing" else "10,000 characters; this figure reads up to 2,000"
            until(page, figure, ".living-status", wanted)
        else:
            page.wait_for_function(
                "(e) => e.innerText === ''", arg=figure.locator(".living-status").element_handle(), timeout=30_000
            )
    assert page.wrong == []


def test_a_missing_file_leaves_the_still_picture(site, page):
    page.route("**/data/base.js", lambda route: route.abort())
    page.goto((site / "figures.html").as_uri())
    figure = page.locator("figure[data-living=switch]")
    figure.scroll_into_view_if_needed()
    until(page, figure, ".living-status", "This figure cannot run here")
    assert figure.locator(".still").is_visible()


def test_without_scripts_there_is_a_picture(site, browser, numbers):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "figures.html").as_uri())
    for name in numbers:
        if name != "about":
            assert page.locator(f"figure[data-living={name}] .still").is_visible(), name
    context.close()


# ---------------------------------------------------------------- notebooks


def test_a_notebook_runs_from_top_to_bottom(site, tmp_path):
    """Lesson 2 as the book gives it, in Jupyter: from the course's folder, in a smoke run."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    from minitransformer.course.bootstrap import ROOT

    (path,) = (site / "notebooks").glob("lesson_02*.ipynb")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert any(cell.get("outputs") for cell in notebook.cells), "the notebook has no recorded outputs"
    assert any("$" in cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for cell in notebook.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs = []
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT / "lessons")}})
    client.execute()
    assert any(output.output_type == "display_data" for cell in notebook.cells for output in cell.get("outputs", []))


def test_every_notebook_is_valid(site):
    nbformat = pytest.importorskip("nbformat")
    paths = sorted((site / "notebooks").glob("*.ipynb"))
    assert len(paths) >= 14
    for path in paths:
        nbformat.validate(json.loads(path.read_text(encoding="utf-8")))
