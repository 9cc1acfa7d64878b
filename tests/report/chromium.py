"""A page in headless Chromium, driven over WebDriver with nothing but the standard library."""

import contextlib
import json
import pathlib
import shutil
import subprocess
import time
import urllib.error
import urllib.request

from several_processes import free_port

# No user profile, no network.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def missing():
    """The missing program that opens a page, or None."""
    lacking = [name for name in ("chromedriver", "chromium") if browser_path(name) is None]
    return f"needs {' and '.join(lacking)} (Debian: apt-get install chromium chromium-driver)" if lacking else None


def browser_path(name):
    others = {"chromium": ("chromium-browser", "google-chrome")}.get(name, ())
    return next((path for each in (name, *others) if (path := shutil.which(each))), None)


class Browser:
    """One session. `page` loads a file, `run` runs the body of a script in it and returns its result."""

    def __init__(self, address):
        self._address = address

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._address}{path}", data, {"Content-Type": "application/json"})
        request.method = method
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()[:500]}") from error

    def page(self, path):
        self.call("POST", "/url", {"url": pathlib.Path(path).resolve().as_uri()})
        # On a busy machine the driver can return while the same address is still read again.
        for _ in range(2000):
            if self.run("return document.readyState") == "complete":
                return
            time.sleep(0.05)
        raise AssertionError(f"{path} is not loaded after 100 seconds")

    def run(self, script, *arguments):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def size(self, width, height):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)

    def colours(self, scheme):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.devtools("Emulation.setEmulatedMedia", {"features": [feature]})

    def devtools(self, command, parameters):
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def complaints(self):
        """Errors and warnings in the console since the last call."""
        return [entry["message"] for entry in self.call("POST", "/se/log", {"type": "browser"})]


@contextlib.contextmanager
def browser(folder):
    """Starts a driver and a session; `folder` takes its empty profile and its log."""
    port = free_port()
    with open(folder / "chromedriver.log", "wb") as log:
        driver = subprocess.Popen([browser_path("chromedriver"), f"--port={port}"], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(2000):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/status", timeout=60):
                break
            time.sleep(0.05)
        options = {
            "binary": browser_path("chromium"),
            "args": [*FLAGS, f"--user-data-dir={folder / 'profile'}", "--window-size=1280,900"],
        }
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = Browser(f"{address}/session").call("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        found = Browser(f"{address}/session/{session['sessionId']}")
        try:
            yield found
        finally:
            found.call("DELETE", "")
    finally:
        driver.terminate()
        driver.wait(timeout=600)
