#!/usr/bin/env python3
"""The page that a node serves, in a real browser: tests/page.py [FOLIO] [DIRECTORY for pictures].

Needs Debian's packages chromium and chromium-driver, which is why it is no part of `cargo test` nor of `.ci/run`.
"""

import base64
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "clients/python"))
import folio  # noqa: E402

MARKUP = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1100,1000"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


class Browser:
    """Chromium by the WebDriver protocol."""

    def __init__(self, directory):
        port = free_port()
        self.driver = subprocess.Popen(["chromedriver", f"--port={port}", "--silent"], stderr=subprocess.DEVNULL)
        self.url = f"http://127.0.0.1:{port}/session"
        self.wait_for(self.is_ready, "the driver")
        options = {"args": FLAGS + [f"--user-data-dir={directory}/profile"]}
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self.send("", {"capabilities": {"alwaysMatch": capabilities}})
        self.url += "/" + session["sessionId"]

    def is_ready(self):
        try:
            urllib.request.urlopen(self.url.replace("/session", "/status"), timeout=1)
            return True
        except OSError:
            return False

    def send(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error

    def run(self, script, *arguments):
        return self.send("/execute/sync", {"script": script, "args": arguments})

    def text(self):
        return self.run("return document.body.innerText")

    def wait_for(self, condition, what, seconds=20):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what} did not come; the page: {self.text()}"
            time.sleep(0.02)

    def click(self, text):
        found = "[...document.querySelectorAll('main a, main button')].find((one) => one.textContent === arguments[0])"
        self.wait_for(lambda: self.run(f"return !!{found}", text), f"a link or button {text!r}")
        self.run(f"{found}.click()", text)

    def sees(self, *texts):
        for text in texts:
            self.wait_for(lambda: text in self.text(), repr(text))

    def picture(self, directory, name):
        if directory:
            png = base64.b64decode(self.send("/screenshot"))
            directory = pathlib.Path(directory)
            directory.mkdir(parents=True, exist_ok=True)
            (directory / f"{name}.png").write_bytes(png)

    def close(self):
        try:
            urllib.request.urlopen(urllib.request.Request(self.url, method="DELETE"), timeout=10)
        finally:
            self.driver.kill()
            self.driver.wait()


def check(browser, url, client, pictures):
    vault = client.create_vault(MARKUP)
    for number in range(25):
        client.submit(vault, [folio.put(f"key {number:03}/{part}", f"value {number}") for part in range(4)])
    client.submit(vault, [folio.put(MARKUP, MARKUP), folio.put(b"\xff\x00", b"\xfe"), folio.put("..", "dots")])
    client.submit(vault, [folio.relate(MARKUP, "owner", "user:7"), folio.put("late", "x", 9_007_199_254_740_993)])

    browser.send("/url", {"url": url})
    browser.sees("node 1, leader, node 1 leads", "leads", "this node", MARKUP)
    browser.picture(pictures, "cluster")

    browser.click(str(vault))
    browser.sees(f"Vault {vault}", "State root", "key 000/0", "owner", "dots")
    browser.picture(pictures, "vault")
    browser.click("Older")
    browser.wait_for(lambda: browser.run("return document.querySelectorAll('#view a[href*=blocks]').length") == 20, "older blocks")
    browser.click("More")
    browser.sees("key 020/0")
    browser.run("document.querySelector('input[name=prefix]').value = 'key 024'; document.querySelector('#view form').requestSubmit()")
    browser.wait_for(lambda: "key 023" not in browser.text() and "key 024/3" in browser.text(), "what was searched for")

    browser.click("key 024/3")
    browser.sees("In this browser", "proved", "value 24")
    assert browser.run("return !!document.getElementById('proved')"), browser.text()
    browser.picture(pictures, "entity")
    for key, value in [(MARKUP.encode(), MARKUP), (b"\xff\x00", "0xfe")]:
        browser.run("location.hash = arguments[0]", f"#/vaults/{vault}/entities/{key.hex()}")
        browser.sees(value)
        browser.wait_for(lambda: browser.run("return !!document.getElementById('proved')"), "the proof")
    browser.run("location.hash = arguments[0]", f"#/vaults/{vault}/entities/{b'..'.hex()}")
    browser.sees("for a step in the path")
    browser.run("location.hash = arguments[0]", f"#/vaults/{vault}/entities/{b'none'.hex()}")
    browser.sees("It is not there.", "proved")
    browser.run("location.hash = arguments[0]", f"#/vaults/{vault}/entities/{b'late'.hex()}")
    browser.sees("too large for JavaScript")

    browser.run("location.hash = arguments[0]", f"#/vaults/{vault}/blocks/26")
    browser.sees("Block 26", "Transactions (1)", "onerror")
    browser.picture(pictures, "block")
    browser.run("location.hash = '#/vaults/999'")
    browser.sees("there is no vault 999")
    browser.run("location.hash = '#/vaults/%/entities/zz'")
    browser.sees("Cluster")

    # A node that lies: each answer is changed on its way to the check, which finds out.
    browser.send("/url", {"url": f"{url}#/vaults/{vault}"})
    browser.sees("State root")
    lies = {
        "another value": "answer.entity.value = 'other'",
        "another version": "answer.entity.version += 1",
        "an end": "answer.entity.expires_at = 7",
        "absence": "delete answer.entity",
        "another bucket": "answer.proof.bucket = []",
        "a sibling": "answer.proof.siblings.length ? answer.proof.siblings[0] = answer.block.hash : answer.proof.siblings.push(answer.block.hash)",
        "another root": "answer.block.header.state_root = answer.block.hash",
        "another hash": "answer.block.hash = answer.block.header.state_root",
        "another vault": "answer.block.header.vault += 1",
    }
    honest = """
        const done = arguments[arguments.length - 1], key = new TextEncoder().encode('key 001/1');
        local(`/v1/vaults/${arguments[0]}/proofs/entities/${keyPath(key)}`)
            .then((answer) => { LIE; return check(arguments[0], key, answer); })
            .then((wrong) => done(wrong), (error) => done('error: ' + error.message));
    """
    ask = lambda lie: browser.send("/execute/async", {"script": honest.replace("LIE", lie), "args": [vault]})
    assert ask("") is None, ask("")
    for name, lie in lies.items():
        assert ask(lie), f"{name} was not found out"

    assert browser.run("return document.title") == "Folio", "markup of a vault was carried out"
    assert browser.run("return document.querySelectorAll('img, main script').length") == 0
    log = [entry for entry in browser.send("/se/log", {"type": "browser"}) if "404" not in entry["message"]]
    assert not log, log
    # What got into the page all the same would not be carried out, nor fetch anything.
    foreign = "const one = document.createElement('script'); one.textContent = 'document.title = 1'; document.head.append(one)"
    browser.run(foreign)
    assert browser.run("return document.title") == "Folio", "the policy allows a script that is not the page's"
    fetched = "fetch('http://127.0.0.2:1/').then(() => 'fetched', (error) => error.message).then(arguments[0])"
    browser.send("/execute/async", {"script": fetched, "args": []})
    refused = [entry["message"] for entry in browser.send("/se/log", {"type": "browser"})]
    assert sum("Content Security Policy" in message for message in refused) >= 2, refused


def main():
    binary = sys.argv[1] if len(sys.argv) > 1 else "target/debug/folio"
    pictures = sys.argv[2] if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory() as directory:
        api = f"127.0.0.1:{free_port()}"
        serve = [binary, "serve", "--id", "1", "--file", f"{directory}/node.folio", "--init", "--listen", api]
        serve += ["--peer-listen", f"127.0.0.1:{free_port()}"]
        node = subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            node.stdout.readline()
            browser = Browser(directory)
            try:
                check(browser, f"http://{api}/", folio.Client([api]), pictures)
            finally:
                browser.close()
        finally:
            node.kill()
            node.wait()
    print("the page shows what it should")


if __name__ == "__main__":
    main()
