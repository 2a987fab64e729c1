"""A browser without a network, for every page."""

import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
browser_only = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this system: the browser tests need one")


@pytest.fixture(scope="module")
def open_page():
    """Open a page in Chromium with the network off; fail on any request, console error or exception."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this system")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.set_offline(True)

        def open_file(path):
            page = context.new_page()
            page.complaints = []
            page.on(
                "console",
                lambda message: page.complaints.append(message.text) if message.type in ("error", "warning") else None,
            )
            page.on("pageerror", lambda error: page.complaints.append(str(error)))
            page.on(
                "request", lambda request: page.complaints.append(request.url) if request.url != path.as_uri() else None
            )
            page.goto(path.as_uri())
            for chart in page.locator("figure").all():
                chart.locator("svg, canvas").first.wait_for()
            return page

        yield open_file
        browser.close()
