"""Every page in a real browser: wide and narrow, light and dark."""

import pytest

PAGES = ("run_page", "sweep_page", "store_page")
SIZES = [(1280, False), (390, True), (390, False), (1280, True)]
SECTIONS = {
    "run_page": ("Against the baselines", "Within each antigen", "Learning", "Rejected and normalised", "Repeat it"),
    "sweep_page": ("Trials", "What mattered", "Ensemble", "Against the baselines", "Predicted and measured"),
    "store_page": ("What was done", "Lengths, buckets and padding", "Precision and fidelity"),
}


@pytest.fixture(params=PAGES)
def page(request):
    return request.param, request.getfixturevalue(request.param)


def test_a_page_needs_nothing_else_and_says_what_it_should(browser, page, tmp_path):
    """No console message, no request but for itself, all sections, nothing wider than the screen; pictures are kept."""
    name, path = page
    for width, dark in SIZES:
        opened = browser.open(path, width=width, dark=dark)
        (tmp_path / f"{name}-{width}-{'dark' if dark else 'light'}.png").write_bytes(opened.picture())
        assert opened.complaints == []
        assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
        assert sum(url.startswith("file:") for url in opened.requests) == 1
        titles = opened.value("[...document.querySelectorAll('h2')].map(title => title.textContent)")
        assert set(SECTIONS[name]) <= set(titles)
        assert opened.value("document.documentElement.scrollWidth") <= width
        assert opened.value("document.querySelectorAll('script').length") == 0
        ground = opened.value("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (sum(ground) < 200) is dark
        assert opened.value(
            "[...document.querySelectorAll('svg')].every(svg => svg.getBoundingClientRect().width > 300)"
        )
        ids = opened.value("[...document.querySelectorAll('[id]')].map(element => element.id)")
        assert len(ids) == len(set(ids))


def test_drawings_follow_the_theme(browser, run_page):
    """Text of a drawing is light on dark and dark on light, in the page's font."""
    colours = []
    for dark in (False, True):
        opened = browser.open(run_page, width=1280, dark=dark)
        style = "getComputedStyle(document.querySelector('figure svg text'))"
        colours.append(opened.value(f"{style}.fill.match(/\\d+/g).map(Number)"))
        assert opened.value(f"{style}.fontFamily === getComputedStyle(document.body).fontFamily")
    assert sum(colours[0]) < 400 < sum(colours[1])


def test_ids_are_text_whatever_they_hold(browser, run_page):
    """A tag in an id is shown and not obeyed."""
    opened = browser.open(run_page, width=1280, dark=False)
    text = opened.value("document.body.innerText")
    for shown in (
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "' & {{ 7 * 7 }}",
        "\\x1b[31m",
        "\\u202eevil",
    ):
        assert shown in text
    assert opened.value("document.querySelectorAll('td img, td b, td u').length") == 0
    assert "<b>bad</b>" in text


def test_a_page_that_misbehaves_is_found_out(browser, tmp_path):
    """The checks above see a script, a request that the page's policy stops, and one that it does not."""
    (tmp_path / "bad.html").write_text(
        "<meta http-equiv='Content-Security-Policy' content=\"script-src 'none'\"><script>1</script>"
        "<img src='http://127.0.0.1:9/x.png'>"
    )
    opened = browser.open(tmp_path / "bad.html", width=390, dark=False)
    assert opened.complaints
    assert "http://127.0.0.1:9/x.png" in opened.requests
