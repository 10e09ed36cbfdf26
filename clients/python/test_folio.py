"""The client against real nodes: `python3 -m unittest` here, with FOLIO set to the built binary."""

import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import threading
import unittest

import folio

BINARY = os.environ.get("FOLIO")


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Cluster:
    """Nodes as processes, killed at the end."""

    def __init__(self, count, secure=False):
        if not BINARY:
            raise RuntimeError("set FOLIO to the built binary")
        self.directory = tempfile.TemporaryDirectory()
        ports = free_ports(2 * count)
        scheme = "https" if secure else "http"
        self.urls = [f"{scheme}://127.0.0.1:{port}" for port in ports[:count]]
        self.token, flags = None, []
        if secure:
            self.token, flags = self.make_secure(pathlib.Path(self.directory.name), count)
        name = lambda ports: ",".join(f"{i}=127.0.0.1:{port}" for i, port in enumerate(ports, 1))
        self.processes = {}
        for number in range(count, 0, -1):
            begin = ["--init", "--peers", name(ports[count:])] if number == 1 else []
            file = pathlib.Path(self.directory.name, f"{number}.folio")
            self.processes[number] = subprocess.Popen(
                [BINARY, "serve", "--id", str(number), "--file", file, *begin, *flags]
                + ["--listen", f"127.0.0.1:{ports[number - 1]}", "--apis", name(ports[:count])]
                + ["--peer-listen", f"127.0.0.1:{ports[count + number - 1]}"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            self.processes[number].stdout.readline()  # it listens

    @staticmethod
    def make_secure(directory, count):
        """Certificates, another authority, and a client; gives its token, and the flags of a node."""
        run = lambda *command: subprocess.run([BINARY, *command], check=True, capture_output=True, text=True).stdout
        run("cert", "authority", directory)
        run("cert", "authority", directory / "elsewhere")
        for number in range(1, count + 1):
            run("cert", "node", directory, "--id", str(number), "--host", "127.0.0.1")
        clients = directory / "clients.toml"
        return run("clients", "add", clients, "ana", "--admin", "all").strip(), ["--tls", directory, "--clients", clients]

    def kill_leader(self, client):
        leader = client.request("GET", "/v1/members")["leader"]
        self.processes[leader].send_signal(signal.SIGKILL)

    def stop(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
            process.stdout.close()
        self.directory.cleanup()


class OneNode(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(1)
        cls.addClassCleanup(cls.cluster.stop)
        cls.client = folio.Client(cls.cluster.urls)

    def setUp(self):
        self.vault = self.client.create_vault("first", retention=10)

    def test_what_a_transaction_sets_can_be_read(self):
        keys = ["colour", "a/b", "..", "%2F?#", "é", b"\xff\x00"]
        receipt = self.client.submit(self.vault, [folio.put(key, key) for key in keys])
        for key in keys:
            entity = self.client.get(self.vault, key, read=f"at_least:{receipt['log_index']}")
            self.assertEqual((entity["key"], entity["value"], entity["version"]), (key, key, 1))
            self.assertIsNone(self.client.get(self.vault, key, height=receipt["height"] - 1))
        self.assertIsNone(self.client.get(self.vault, "none", read="local"))

    def test_a_condition_that_fails_has_its_code(self):
        condition = folio.require("colour", exists=True)
        with self.assertRaises(folio.Refused) as refused:
            self.client.submit(self.vault, [folio.put("colour", "blue")], [condition])
        self.assertEqual(refused.exception.code, "condition_failed")

    def test_lists_come_whole(self):
        operations = [folio.put(f"key {number:03}", "") for number in range(25)]
        operations += [folio.relate("car:1", "driver", f"user:{number}") for number in range(5)]
        self.client.submit(self.vault, operations + [folio.unrelate("car:1", "driver", "user:3")])
        found = [entity["key"] for entity in self.client.entities(self.vault, "key 0", limit=7)]
        self.assertEqual(found, [f"key {number:03}" for number in range(25)])
        drivers = self.client.relationships(self.vault, resource="car:1", limit=2)
        self.assertEqual([driver["subject"][-1] for driver in drivers], ["0", "1", "2", "4"])
        self.assertIn(self.vault, [vault["vault"] for vault in self.client.vaults(limit=1)])

    def test_a_session_repeats_without_doing_it_twice(self):
        with self.client.session() as session:
            write = [folio.put("n", "1")], [folio.require("n", exists=False)]
            first = session.submit(self.vault, *write)
            session._sequence -= 1  # as if the answer had been lost
            self.assertEqual(session.submit(self.vault, *write), first)
            session.delete_vault(self.vault)
        with self.assertRaises(folio.Refused) as refused:
            session.create_vault("late")
        self.assertEqual(refused.exception.code, "session_expired")

    def test_a_feed_has_everything_and_ends_with_its_vault(self):
        for number in range(3):
            self.client.submit(self.vault, [folio.put(b"\xff", str(number))])
        feed, seen = self.client.changes(self.vault), []
        for event in feed:
            seen.append(event.kind)
            if event.kind == "transaction":
                self.assertEqual(event.data["operations"][0]["set"]["key"], b"\xff")
            if event.id == "3":
                self.client.request("DELETE", f"/v1/vaults/{self.vault}")
        self.assertEqual(seen, ["block"] + ["transaction", "block"] * 3 + ["vault_deleted"])


class ThreeNodes(unittest.TestCase):
    def setUp(self):
        self.cluster = Cluster(3)
        self.addCleanup(self.cluster.stop)
        self.client = folio.Client(self.cluster.urls, deadline=60)

    def test_every_acknowledged_write_is_there_once_although_a_leader_is_killed(self):
        vault = self.client.create_vault("first")
        session = self.client.session()
        feed = self.client.changes(vault)
        next(feed)  # a connection to the node that is killed below
        for number in range(60):
            if number == 30:
                self.cluster.kill_leader(self.client)
            key = f"{number:02}"
            receipt = session.submit(vault, [folio.put(key, "")], [folio.require(key, exists=False)])
            self.assertEqual(receipt["outcomes"], [{"outcome": "entity_created", "version": 1}])
        keys = [f"{number:02}" for number in range(60)]
        self.assertEqual([entity["key"] for entity in self.client.entities(vault, limit=11)], keys)
        told = (event for event in feed if event.kind == "transaction")
        told = [next(told).data["operations"][0]["set"]["key"] for _ in keys]
        self.assertEqual(told, keys)

    def test_one_node_is_enough_to_find_the_leader(self):
        for url in self.cluster.urls:
            self.assertGreater(folio.Client([url]).create_vault("any"), 0)


class Encrypted(unittest.TestCase):
    """A node that speaks TLS and knows its clients."""

    def test_who_is_trusted_and_known_is_answered(self):
        cluster = Cluster(1, secure=True)
        self.addCleanup(cluster.stop)
        directory = pathlib.Path(cluster.directory.name)
        ca, known = str(directory / "authority.pem"), cluster.token
        client = folio.Client(cluster.urls, ca=ca, token=known)
        vault = client.create_vault("first")
        with client.session() as session:
            session.submit(vault, [folio.put("colour", "blue")])
        self.assertEqual(next(client.changes(vault)).kind, "block")

        with self.assertRaises(folio.Refused) as refused:
            folio.Client(cluster.urls, ca=ca).create_vault("any")
        self.assertEqual(refused.exception.code, "unauthenticated")
        elsewhere = str(directory / "elsewhere" / "authority.pem")
        for wrong in [{"ca": elsewhere}, {}]:
            with self.assertRaises(folio.FolioError):
                folio.Client(cluster.urls, token=known, **wrong).create_vault("any")


class NoFolioNode(unittest.TestCase):
    """What answers may be anything, or nothing."""

    def answering(self, status, body, kind="application/problem+json", location=None):
        class Handler(http.server.BaseHTTPRequestHandler):
            asked = 0

            def do_POST(self):
                Handler.asked += 1
                self.rfile.read(int(self.headers["Content-Length"] or 0))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if location:
                    self.send_header("Location", location)
                self.end_headers()
                self.wfile.write(body)

            do_DELETE = do_POST

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return Handler, folio.Client([f"http://127.0.0.1:{server.server_port}"], deadline=0.5)

    def problem(self, status, code, **more):
        return self.answering(status, json.dumps({"code": code, "status": status}).encode(), **more)

    def test_a_write_that_may_have_been_done_is_not_sent_again_outside_a_session(self):
        for status, code in [(504, "outcome_unknown"), (504, "timeout"), (500, "storage_failed")]:
            handler, client = self.problem(status, code)
            with self.assertRaises(folio.OutcomeUnknown):
                client.submit(1, [folio.delete("a")])
            self.assertEqual(handler.asked, 1, code)

    def test_a_write_that_was_not_done_is_sent_again_until_the_deadline(self):
        for status, code in [(503, "no_leader"), (503, "of_tomorrow"), (421, "not_leader"), (408, "body_timeout"),
                             (507, "disk_full")]:
            handler, client = self.problem(status, code)
            with self.assertRaises(folio.Unavailable):
                client.submit(1, [folio.delete("a")])
            self.assertGreater(handler.asked, 1, code)

    def test_a_session_knows_what_is_unsettled(self):
        _, client = self.problem(504, "outcome_unknown")
        session = folio.Session(client, "an id")
        with self.assertRaises(folio.OutcomeUnknown):
            session.submit(1, [folio.delete("a")])
        self.assertIsNotNone(session._pending)

    def test_a_session_that_has_ended_is_closed(self):
        _, client = self.problem(410, "session_expired")
        with folio.Session(client, "id"):
            pass
        _, client = self.problem(404, "session_unknown")
        with self.assertRaises(folio.Refused):
            folio.Session(client, "id").close()

    def test_what_is_no_node_is_told_so(self):
        document, html = "application/problem+json", "text/html"
        for status, body, kind in [(200, b"<", html), (404, b"<", html), (404, b"<", document)]:
            _, client = self.answering(status, body, kind=kind)
            with self.assertRaises(folio.FolioError):
                client.create_vault("a")

    def test_nobody_there_is_no_doubt_about_a_write(self):
        (port,) = free_ports(1)
        with self.assertRaises(folio.Unavailable):
            folio.Client([f"127.0.0.1:{port}"], deadline=0.3).create_vault("a")


if __name__ == "__main__":
    unittest.main()
