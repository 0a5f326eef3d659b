"""A headless Chromium, driven by the Chrome DevTools Protocol; and the served page as a process beside it."""

import base64
import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from websockets.sync.client import connect

REPOSITORY = Path(__file__).parents[3]
PATIENCE = 60.0
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-quic --hide-scrollbars --force-color-profile=srgb --remote-debugging-port=0"
)
KEYS = {"Enter": "\r", "Escape": "", "Tab": "", "ArrowDown": "", "ArrowUp": "", "PageDown": ""}
CODES = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowDown": 40, "ArrowUp": 38, "PageDown": 34}


class Served:
    """The process of ``served.py``; ``address`` is where the page is."""

    def __init__(self, run, plan, reviewer="anna"):
        self.command = [sys.executable, str(Path(__file__).with_name("served.py")), str(run), reviewer]
        self.plan = plan
        self.start()

    def start(self):
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        command = [*self.command, json.dumps(self.plan)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http://127.0.0.1:"), self.address

    @property
    def origin(self):
        return "/".join(self.address.split("/")[:3])

    def said(self):
        """What it has printed since."""
        lines = []
        while select.select([self.process.stdout], [], [], 0.2)[0] and (line := self.process.stdout.readline()):
            lines.append(line.strip())
        return lines

    def stop(self, number=signal.SIGINT):
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(30)
        self.process.stdout.close()


@contextlib.contextmanager
def served(run, reviewer="anna", **plan):
    server = Served(run, plan, reviewer)
    try:
        yield server
    finally:
        server.stop()


class Browser:
    """One Chromium process; :meth:`open` makes a tab."""

    def __init__(self, profile):
        command = ["chromium", *OPTIONS.split(), f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port, end = Path(profile) / "DevToolsActivePort", time.monotonic() + PATIENCE
        while not (port.exists() and port.read_text().count("\n")):
            assert time.monotonic() < end and self.process.poll() is None, "Chromium does not start"
            time.sleep(0.05)
        number, path = port.read_text().split("\n")[:2]
        self._socket = connect(f"ws://127.0.0.1:{number}{path}", max_size=None, compression=None)
        self._ids, self.events = itertools.count(1), []

    def call(self, method, session=None, **parameters):
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer = json.loads(self._socket.recv(PATIENCE))
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def open(self, address, width=1200, height=800, dark=False, phone=False):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session, target)
        for domain in ("Page", "Runtime", "Network", "Log"):
            tab.call(f"{domain}.enable")
        tab.call("Emulation.setFocusEmulationEnabled", enabled=True)
        tab.look(width, height, dark, phone)
        tab.call("Page.navigate", url=address)
        tab.until("document.readyState === 'complete'")
        return tab

    def close(self):
        with contextlib.suppress(Exception):
            self.call("Browser.close")
        self._socket.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Tab:
    """One tab, and what it has said."""

    def __init__(self, browser, session, target):
        self.browser, self.session, self.target = browser, session, target

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def look(self, width, height, dark=False, phone=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def value(self, expression):
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression, patience=PATIENCE):
        end = time.monotonic() + patience
        while not (found := self.value(expression)):
            assert time.monotonic() < end, f"never: {expression}\n{self.value('document.body.innerText')}"
            time.sleep(0.02)
        return found

    def text(self, id_="text"):
        return self.value(f"document.getElementById({id_!r}).innerText")

    def shows(self, words, id_="text"):
        """Waits until an element is seen that holds the words."""
        inside = f"document.getElementById({id_!r})"
        self.until(f"{inside}.checkVisibility() && {inside}.innerText.includes({json.dumps(words)})")

    def press(self, key, ctrl=False, code=None, repeat=False):
        """A key, as a keyboard gives it: one character, or a name of ``KEYS``."""
        text = KEYS.get(key, key)
        number = CODES.get(key, ord(key.upper()) if len(key) == 1 else 0)
        common = {"key": key, "windowsVirtualKeyCode": number, "modifiers": 2 if ctrl else 0}
        common["code"] = code or (f"Key{key.upper()}" if key.isalpha() and len(key) == 1 else key)
        typed = {"text": text} if text and not ctrl else {}
        kind = "keyDown" if typed else "rawKeyDown"
        self.call("Input.dispatchKeyEvent", type=kind, autoRepeat=repeat, **typed, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def click(self, selector):
        box = self.value(
            f"(() => {{ const box = document.querySelector({selector!r}).getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def reload(self):
        self.call("Page.reload")
        time.sleep(0.1)
        self.until("document.readyState === 'complete'")

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)

    def picture(self, file):
        file = Path(file)
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def _events(self, method):
        self.value("0")  # what has happened so far has arrived
        mine = (each for each in self.browser.events if each.get("sessionId") == self.session)
        return [each["params"] for each in mine if each["method"] == method]

    def requests(self):
        """The address of every request that the tab has made."""
        return [each["request"]["url"] for each in self._events("Network.requestWillBeSent")]

    def complaints(self):
        """Errors and warnings on the console, such as of a policy that was violated."""
        said = [each["entry"] for each in self._events("Log.entryAdded")]
        thrown = [each["exceptionDetails"] for each in self._events("Runtime.exceptionThrown")]
        return [each for each in said if each["level"] in ("error", "warning")] + thrown
