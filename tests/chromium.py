"""A headless Chromium, driven by its DevTools protocol; it reaches this machine only."""

import json
import shutil
import subprocess
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine (apt install chromium)"
)


@contextmanager
def browser():
    """Start Chromium; yield a function that sends it one command, and the events so far."""
    websocket = pytest.importorskip("websocket")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--remote-debugging-port=0",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--remote-allow-origins=*",
            "--proxy-server=127.0.0.1:9", "--window-size=1200,900",
            f"--user-data-dir={profile}", "about:blank",
        ]  # fmt: skip
        process = subprocess.Popen(
            [CHROMIUM, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            port = Path(profile, "DevToolsActivePort")
            until = time.monotonic() + 60
            while not (port.exists() and port.read_text().count("\n")):
                assert time.monotonic() < until, "Chromium did not start"
                time.sleep(0.1)
            number = port.read_text().split()[0]
            opener = build_opener(ProxyHandler({}))
            with opener.open(f"http://127.0.0.1:{number}/json/list", timeout=30) as answer:
                target = next(each for each in json.load(answer) if each["type"] == "page")
            socket = websocket.create_connection(
                target["webSocketDebuggerUrl"], timeout=60, http_no_proxy=["127.0.0.1"]
            )
            events = []

            def send(method, **parameters):
                send.number += 1
                message = {"id": send.number, "method": method, "params": parameters}
                socket.send(json.dumps(message))
                while (said := json.loads(socket.recv())).get("id") != send.number:
                    events.append(said)
                assert "error" not in said, said
                return said["result"]

            send.number = 0
            with closing(socket):
                yield send, events
        finally:
            process.kill()
            process.wait(timeout=30)
