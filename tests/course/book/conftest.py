"""A headless Chromium for the tests of the book; they are skipped where the extra is not installed."""

import os
import shutil
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[3] / "minitransformer" / "course" / "book" / "page"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
MODEL = ("files", "tokenizer", "gpt", "sampling", "train")


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium, driven by Playwright."""
    api = pytest.importorskip("playwright.sync_api", reason="make book-tools installs what the book's tests need")
    if CHROMIUM is None:
        pytest.skip("the book's tests need a browser: apt-get install chromium, or name it in CHROMIUM")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def model_page(browser):
    """An empty page with the scripts of the page's GPT; `.evaluate(code, argument)` runs JavaScript in it."""
    page = browser.new_page()
    for name in MODEL:
        page.add_script_tag(path=PAGE / "model" / f"{name}.js")
    yield page
    page.close()
