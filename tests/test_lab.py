"""In JupyterLab, in a real browser: every notebook opens and runs, and the slider moves the figure.

`DFSP_LAB=all` runs every notebook (`make screens`), otherwise only the quick ones. Screenshots go to the
folder `DFSP_SCREENSHOTS`, otherwise to pytest's temporary one.
"""

import base64
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest
from chromium import browser, needs_chromium

FOLDER = Path(__file__).parents[1] / "notebooks"
QUICK = ["explore.ipynb", pytest.param("08_planning.ipynb", marks=pytest.mark.slow)]
CHOSEN = sorted(p.name for p in FOLDER.glob("*.ipynb")) if os.getenv("DFSP_LAB") == "all" else QUICK
WIDE, HIGH = 1400, 900
LAB = "[...jupyterapp.shell.widgets('main')].find(w => w.context?.path === NAME)"
SETTINGS = {
    # Every cell is drawn, also those that would have to be scrolled to
    "notebook-extension/tracker": {"windowingMode": "none", "scrollPastEnd": False},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
pytestmark = needs_chromium


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Serve a copy of the notebooks; return the address, with its token."""
    place = tmp_path_factory.mktemp("lab")
    shutil.copytree(FOLDER, place / "notebooks")
    for name, settings in SETTINGS.items():
        file = place / f"settings/@jupyterlab/{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    words = [
        "--no-browser", "--allow-root", "--expose-app-in-browser",
        "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={place / 'notebooks'}",
    ]  # fmt: skip
    own = {
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }  # fmt: skip
    with (place / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *words],
            env=os.environ | {name: str(place / folder) for name, folder in own.items()},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            wait_for_server(f"http://127.0.0.1:{port}/api?token={token}", place / "log.txt")
            yield f"http://127.0.0.1:{port}/lab", token
        finally:
            process.terminate()  # which ends the kernels, too
            process.wait(timeout=60)


def wait_for_server(address, log):
    opener, until = build_opener(ProxyHandler({})), time.monotonic() + 60
    while time.monotonic() < until:
        try:
            opener.open(address, timeout=30).close()
        except URLError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()}")


class Page:
    """One notebook in JupyterLab."""

    def __init__(self, send, server, name):
        self.send, self.name = send, name
        address, token = server
        self.view(HIGH)
        # A workspace of its own, so that no other notebook is open
        send("Page.navigate", url=f"{address}/workspaces/{name[:2]}/tree/{name}?token={token}")
        self.until("typeof jupyterapp !== 'undefined' && document.querySelector('#main') !== null")
        self.until(f"{LAB}?.context.isReady && {LAB}.sessionContext.isReady")
        self.until(f"{LAB}.sessionContext.session?.kernel?.status === 'idle'")

    def view(self, high):
        self.send(
            "Emulation.setDeviceMetricsOverride", width=WIDE, height=high, deviceScaleFactor=1,
            mobile=False,
        )  # fmt: skip

    def ask(self, expression):
        """Return what a JavaScript expression becomes, promises kept."""
        code = expression.replace("NAME", json.dumps(self.name))
        said = self.send(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )  # fmt: skip
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def until(self, condition, seconds=90):
        end = time.monotonic() + seconds
        while not self.ask(f"Boolean({condition})"):
            assert time.monotonic() < end, f"{self.name}: waited in vain for {condition}"
            time.sleep(0.1)

    def run_all(self):
        self.ask(
            "void jupyterapp.commands.execute('notebook:run-all-cells')"
            ".then(done => { window.ran = done ?? 'unknown' })"
        )
        self.until("window.ran !== undefined", seconds=900)

    def cells(self):
        return json.loads(self.ask(f"JSON.stringify({LAB}.content.model.toJSON().cells)"))

    def press(self, key, code):
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                      windowsVirtualKeyCode=code)  # fmt: skip

    def screenshot(self, folder, ending=""):
        """Save the whole notebook as one picture."""
        panel = f"{LAB}.node.querySelector('.jp-WindowedPanel-outer')"
        self.view(min(self.ask(f"{panel}.scrollHeight") + 200, 16000))
        self.ask(f"void ({panel}.scrollTop = 0)")
        time.sleep(0.5)  # to be drawn at the new size
        png = self.send("Page.captureScreenshot", format="png")["data"]
        (folder / f"{Path(self.name).stem}{ending}.png").write_bytes(base64.b64decode(png))
        self.view(HIGH)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    named = os.getenv("DFSP_SCREENSHOTS")
    place = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    place.mkdir(parents=True, exist_ok=True)
    return place


@pytest.mark.parametrize("name", CHOSEN)
def test_a_notebook_runs_without_a_word_of_trouble(server, folder, name):
    picture = "document.querySelector('.jp-OutputArea img')"
    with browser() as (send, _):
        page = Page(send, server, name)
        page.until(f"({picture})?.naturalWidth > 400")
        # As saved: the first picture begins on the first screen, and no output is wider than it
        assert page.ask(f"{picture}.getBoundingClientRect().top") < HIGH - 100
        wider = "[...document.querySelectorAll('.jp-OutputArea-output, .jp-WindowedPanel-outer')]"
        assert page.ask(f"{wider}.every(e => e.scrollWidth <= e.clientWidth + 1)")
        page.run_all()
        page.screenshot(folder)
        outputs = [o for cell in page.cells() for o in cell.get("outputs", [])]
        kinds = [(o["output_type"], o.get("name")) for o in outputs]
        trouble = [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
        assert kinds and not trouble, trouble
        counts = [c["execution_count"] for c in page.cells() if c["cell_type"] == "code"]
        assert counts == list(range(1, len(counts) + 1))
        for shown in (
            ".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']",
            ".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']",
            ".jp-Dialog", ".jupyter-widgets-error-widget",
        ):  # fmt: skip
            found = f'[...document.querySelectorAll("{shown}")].map(e => e.innerText)'
            assert page.ask(found) == [], shown


def test_the_slider_moves_the_figure(server, folder):
    figure = (
        "(() => { const i = document.querySelector('.jp-OutputArea img.widget-image'),"
        " c = document.createElement('canvas'); c.width = i.naturalWidth; c.height ="
        " i.naturalHeight; c.getContext('2d').drawImage(i, 0, 0); return c.toDataURL() })()"
    )
    with browser() as (send, _):
        page = Page(send, server, "explore.ipynb")
        page.run_all()
        page.until("document.querySelector('.jp-OutputArea img.widget-image')?.naturalWidth > 400")
        page.ask(f"void (window.before = {figure})")
        page.ask("[...document.querySelectorAll('.widget-slider')].find(each =>"
                 " each.innerText.includes('tau scale')).querySelector('.noUi-handle').focus()")  # fmt: skip
        page.press("ArrowRight", 39)
        page.until("document.body.innerText.includes('-p tau_scale 1.1')", seconds=20)
        page.until(f"{figure} !== window.before", seconds=20)
        page.screenshot(folder, "-moved")
