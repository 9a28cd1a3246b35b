"""The documents as a site: it builds strictly, loads nothing from elsewhere, and works in a browser."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium")
PATIENCE = 60_000  # milliseconds that a page may take on a busy machine

pytestmark = pytest.mark.slow
in_a_browser = [
    pytest.mark.browser,
    # Only a missing browser is a reason to skip: one that does not start is a failure.
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as ``make docs`` builds it."""
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    plain = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(build, cwd=ROOT, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is the library's)
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served; its search needs a server."""
    handler = functools.partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, cut off from everything but this machine."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",  # which chromium refuses to root, and containers to chromium
                "--disable-dev-shm-usage",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            ],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The first page, for somebody who was never there; at the end nothing has gone wrong in the console."""
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE)
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("response", lambda answer: wrong.append(answer.url) if answer.status >= 400 else None)
    opened.goto(f"{address}/index.html")
    yield opened
    context.close()
    assert wrong == []


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(site: Path) -> None:
    assert "GuardedParts" in (site / "reference" / "api" / "data.html").read_text(encoding="utf-8")
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"?(https?:)", page.read_text("utf-8")
        )
        assert loaded == [], page


class TestInABrowser:
    pytestmark = in_a_browser

    def test_a_reader_gets_from_the_first_page_to_any_other(self, page: Any) -> None:
        from playwright.sync_api import expect

        expect(page.locator("h1")).to_contain_text("painvrl")
        assert page.locator("article img").first.evaluate("image => image.naturalWidth") > 0
        page.locator("article a", has_text="glossary").click()
        expect(page.locator("h1")).to_contain_text("Glossary")
        page.locator(".md-tabs a", has_text="How to").first.click()
        page.locator(".md-nav--primary a:visible", has_text="Choose a point").first.click()
        expect(page.locator("h1")).to_contain_text("Choosing a point")
        page.locator("a[href='#pick-by-a-rule']:visible").first.click()
        assert page.url.endswith("choosing.html#pick-by-a-rule")

    def test_a_table_of_a_page_is_a_table_with_all_its_rows(self, page: Any, address: str) -> None:
        page.goto(f"{address}/choosing.html")
        written = (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8")
        rules = re.findall(r"^\| (`--.*?) \|", written, re.MULTILINE)
        table = page.locator("article table").first
        cells = [cell.strip() for cell in table.locator("tbody tr td:first-child").all_inner_texts()]
        assert cells == [rule.replace("`", "") for rule in rules]
        assert "|" not in table.inner_text()

    def test_the_search_finds_a_page_by_its_words_and_opens_it(self, page: Any) -> None:
        from playwright.sync_api import expect

        page.locator("label[for='__search']:visible, input[name='query']:visible").first.click()
        # The index is loaded in the background, and what is looked for is read whenever a key is released.
        expect(page.locator(".md-search-result__meta")).to_have_text("Type to start searching")
        page.locator("input[name='query']").press_sequentially("max-ood-with-iid")
        result = page.locator(".md-search-result__link", has_text="Choosing a point").first
        expect(result).to_be_visible()
        result.click()
        expect(page.locator("h1")).to_contain_text("Choosing a point")
