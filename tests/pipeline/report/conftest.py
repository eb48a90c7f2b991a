"""Runs whose ids are hostile, their pages, and a real browser to open these in."""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' & {{ 7 * 7 }}",
    "red \x1b[31m alert",
    "\u202eevil",
]
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-extensions --hide-scrollbars --remote-debugging-pipe"
)
SECONDS = 60


class Browser:
    """A headless Chromium, told what to do over its debugging pipe."""

    def __init__(self, profile):
        read_there, self._write = os.pipe()
        self._read, write_there = os.pipe()
        command = f"exec chromium {FLAGS} --user-data-dir={profile} 3<&{read_there} 4>&{write_there}"
        self._process = subprocess.Popen(
            ["bash", "-c", command],
            pass_fds=(read_there, write_there),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(read_there)
        os.close(write_there)
        self._buffer, self._number, self._events = b"", 0, []

    def close(self):
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(SECONDS)
        os.close(self._read)
        os.close(self._write)

    def open(self, path, *, width, dark):
        """Open a file; what it asked for, what it complained of, and what can be seen of it."""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self._call(f"{domain}.enable", session)
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", session, **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", session, features=[scheme])
        self._events.clear()
        self._call("Page.navigate", session, url=path.as_uri())
        self._wait_for("Page.loadEventFired")
        page = Opened(self, session)
        page.picture()  # what is lazy has now been asked for
        page.requests = [
            e["params"]["request"]["url"] for e in self._events if e["method"] == "Network.requestWillBeSent"
        ]
        loud = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        page.complaints = [event for event in self._events if event["method"] in loud]
        return page

    def _call(self, method, session=None, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        os.write(self._write, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            said = self._next()
            if said.get("id") == self._number:
                assert "error" not in said, said
                return said["result"]
            self._events.append(said)

    def _wait_for(self, method):
        while not any(event.get("method") == method for event in self._events):
            self._events.append(self._next())

    def _next(self):
        until = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0, until - time.monotonic()))
            more = os.read(self._read, 1 << 20) if ready else b""
            assert more, "the browser says nothing any more"
            self._buffer += more
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


class Opened:
    """A page in the browser."""

    def __init__(self, browser, session):
        self._browser, self._session = browser, session

    def value(self, expression):
        """What a JavaScript expression is in the page."""
        told = self._browser._call("Runtime.evaluate", self._session, expression=expression, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def picture(self):
        """The whole page as PNG."""
        shot = self._browser._call("Page.captureScreenshot", self._session, captureBeyondViewport=True)
        return base64.b64decode(shot["data"])


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A Chromium of the system."""
    if shutil.which("chromium") is None or shutil.which("bash") is None:
        pytest.skip("chromium is not installed; on Debian: apt install chromium")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def hostile(demo, embedded):
    """The demo's config with a table of hostile ids, in which one row is rejected."""
    header, *lines = (demo / "pairs.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines]
    for cell, name in zip(cells, HOSTILE, strict=False):
        cell[0] = '"' + name.replace('"', '""') + '"'
    cells.append(['"<b>bad</b>"', "Q1<u>Q", "", cells[0][3], "7"])
    # so that every hostile id is among the test pairs, of which the largest errors are listed
    parts = ["test" if row < len(HOSTILE) else ("train", "valid")[row % 8 == 0] for row in range(len(cells))]
    with_parts = [f"{header},part", *(",".join([*cell, part]) for cell, part in zip(cells, parts, strict=True))]
    (demo / "hostile.csv").write_text("\n".join(with_parts) + "\n")
    sets = {
        "pairs.path": demo / "hostile.csv",
        "pairs.split": "part",
        "pairs.on_bad_row": "reject",
        "train.split": "column",
        "train.run": demo / "hostile-run",
    }
    return [
        "--config",
        demo / "demo.toml",
        *(word for item in sets.items() for word in ("--set", "=".join(map(str, item)))),
    ]


@pytest.fixture(scope="session")
def run_page(bindcache, hostile, quick, demo):
    """`report.html` of a run on that table."""
    result = bindcache("train", *hostile, *quick, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["report"] == str(demo / "hostile-run" / "report.html")
    return demo / "hostile-run" / "report.html"


@pytest.fixture(scope="session")
def store_page(bindcache, hostile):
    """`report.html` of an embedding of that table."""
    result = bindcache("embed", *hostile, "--json")
    assert result.exit_code == 0, result.output
    return Path(json.loads(result.stdout)["report"])


@pytest.fixture(scope="session")
def sweep_page(bindcache, config, embedded, quick, demo):
    """`report.html` of a sweep of twelve trials."""
    space = "{lr = {log = [1e-4, 1e-2]}, depth = {int = [1, 2]}, features = {choice = ['whiten', 'standardise']}}"
    sets = ("--set", f"sweep.folder={demo / 'report-sweep'}", "--set", f"sweep.space={space}", "--set", "sweep.best=2")
    result = bindcache("sweep", "--config", config, *quick, *sets, "--trials", 12, "--workers", 1, "--json")
    assert result.exit_code == 0, result.output
    return demo / "report-sweep" / "report.html"
