"""A client of Folio nodes: one file, the standard library only.

    >>> import folio
    >>> client = folio.Client(["http://127.0.0.1:7001", "http://127.0.0.1:7002"])
    >>> vault = client.create_vault("first")
    >>> with client.session() as session:            # each write happens once, however often it has to be sent
    ...     receipt = session.submit(vault, [folio.put("colour", "blue")])
    >>> client.get(vault, "colour")["value"]
    'blue'
    >>> for event in client.changes(vault):           # everything that happens, from the beginning, without a gap
    ...     print(event.kind, event.data)

Keys and values are `str` or `bytes`; what a node answers has `str` where the bytes are UTF-8 and else `bytes`. What a
node cannot answer is asked of the next one, until the deadline; the leader is found by itself.
"""

import base64
import dataclasses
import http.client
import json
import random
import ssl
import time
from urllib.parse import quote, urlencode, urlsplit

# The pause in seconds after all nodes were asked once; it doubles from round to round.
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
# A node says something at least every 15 seconds on a feed, if only that it is there.
SILENCE = 45
# No answer has more bytes, and no more nodes are remembered.
MAX_ANSWER, MAX_NODES = 32 << 20, 64
# Problems after which a write may have been done all the same.
DOUBTFUL = {"timeout", "outcome_unknown", "storage_failed", "node_stopped"}
# Problems that another node, or a later time, may not have; those with the status 408, 429 and 503 are such, too.
LATER = {"not_leader", "disk_full", "not_yet_applied"}


class FolioError(Exception):
    """Something is wrong."""


class Refused(FolioError):
    """A node refused the request, and another one would, too. `code` is stable; `problem` is the whole document."""

    def __init__(self, problem):
        super().__init__(f"{problem.get('title')}: {problem.get('detail')}")
        self.code, self.problem = problem.get("code"), problem


class Unavailable(FolioError):
    """No node could answer within the deadline. Nothing was done."""


class OutcomeUnknown(FolioError):
    """The request was sent and no answer came: it may have been carried out. `Session.settle` finds out."""


def put(key, value, expires_at=None):
    """Creates an entity or gives it a new value; `expires_at` is in microseconds since 1970."""
    until = {} if expires_at is None else {"expires_at": expires_at}
    return {"set": {"key": _to_json(key), "value": _to_json(value), **until}}


def delete(key):
    """Deletes an entity."""
    return {"delete": {"key": _to_json(key)}}


def relate(resource, relation, subject):
    """Creates a relationship: `subject` stands in `relation` to `resource`."""
    return {"relate": {"resource": resource, "relation": relation, "subject": subject}}


def unrelate(resource, relation, subject):
    """Deletes a relationship."""
    return {"unrelate": {"resource": resource, "relation": relation, "subject": subject}}


def require(key, *, exists=None, version=None, value=None):
    """What must hold of an entity for a transaction to be carried out; one of the three."""
    if version is not None:
        must = {"have_version": version}
    elif value is not None:
        must = {"have_value": _to_json(value)}
    else:
        must = "exist" if exists else "not_exist"
    return {"entity": _to_json(key), "must": must}


def _to_json(value):
    if isinstance(value, str):
        return value
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _from_json(members):
    """Bytes where a node wrote them in base64: in answers nothing else has this form."""
    return base64.b64decode(members["base64"]) if members.keys() == {"base64"} else members


class _Sent(Exception):
    """No answer, and the node may have done what was asked."""


class _Later(Exception):
    """Nothing was done; the leader, another node or a later time may do it."""

    def __init__(self, reason, leader=None, wait=0.0):
        super().__init__(reason)
        self.leader, self.wait = leader, wait


class Client:
    """A client of a cluster that has nodes at `urls`; some of them are enough. Not for several threads at a time.

    `token` says who the client is, or `certificate`, a pair of PEM files: it and its key. `ca` is the PEM file of the
    authority that nodes at https:// have their certificates of. `deadline` is how long a call goes on trying,
    `patience` how long one node may take before another one is asked, in seconds.
    """

    def __init__(self, urls, *, token=None, ca=None, certificate=None, deadline=30.0, patience=5.0):
        self._nodes = [self._node(url) for url in urls]
        if not self._nodes:
            raise ValueError("name at least one node")
        self._leader = 0
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._deadline, self._patience = deadline, patience
        self._tls = None
        if ca:
            self._tls = ssl.create_default_context(cafile=ca)
            if certificate:
                self._tls.load_cert_chain(*certificate)

    @staticmethod
    def _node(url):
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.port:
            raise ValueError(f"{url!r} is no address of a node: write http://HOST:PORT")
        return parts.scheme, parts.hostname, parts.port

    # Writes outside a session: an answer that is lost leaves open whether they were carried out.
    def session(self):
        """Opens a session, in which each write is carried out once however often it has to be sent."""
        return Session(self, self.request("POST", "/v1/sessions", repeatable=True)["session"])

    def create_vault(self, name, retention=0):
        """Creates a vault that keeps past versions for `retention` blocks; gives its number."""
        body = {"name": name, "retention": retention}
        return self.request("POST", "/v1/vaults", body)["vault"]

    def submit(self, vault, operations, conditions=()):
        """Carries out a transaction, all of it or nothing; gives the receipt."""
        body = {"operations": list(operations), "conditions": list(conditions)}
        return self.request("POST", f"/v1/vaults/{vault}/transactions", body)

    # Reads. `read` is how fresh they are: linearizable, lease, follower, local, or at_least: and a write's log_index.
    def get(self, vault, key, read=None, height=None):
        """The entity under `key`, or what it was as of a height; `None` if it is not there."""
        path = f"/v1/vaults/{vault}/entities/{_quote(key)}"
        try:
            return self.request("GET", path, query={"read": read, "height": height})
        except Refused as refused:
            if refused.code == "entity_not_found":
                return None
            raise

    def vaults(self, **query):
        """All vaults, fetched page by page as they are taken."""
        return self._list("/v1/vaults", query)

    def entities(self, vault, prefix="", **query):
        """The entities whose keys begin with `prefix`, in the order of keys."""
        return self._list(f"/v1/vaults/{vault}/entities", {"prefix": prefix, **query})

    def relationships(self, vault, **query):
        """Relationships: of a `resource` or of a `subject`, of a `relation`, or all."""
        return self._list(f"/v1/vaults/{vault}/relationships", query)

    def _list(self, path, query):
        page = self.request("GET", path, query=query)
        yield from page["items"]
        while "next" in page:
            page = self.request("GET", path, query={**query, "after": page["next"]})
            yield from page["items"]

    def changes(self, vault, start=0, after=None):
        """All that happens to a vault from the height `start` on, or after the event with the id `after`: without a gap
        and with nothing twice, although connections end, until `vault_deleted`."""
        while True:
            headers = {"Last-Event-ID": after} if after else {}
            path = f"/v1/vaults/{vault}/changes"
            try:
                query = _query({"from": start})
                connection, response = self._ask("GET", path + query, None, headers, True, stream=True)
            except Refused as refused:
                if refused.code != "vault_deleted":
                    raise
                yield Event("vault_deleted", None, {"vault": vault})
                return
            try:
                for event in _events(response):
                    if event.kind == "problem":
                        break  # this node cannot go on; why, it tells the next request
                    after = event.id or after
                    yield event
                    if event.kind == "vault_deleted":
                        return
            except (OSError, http.client.HTTPException):
                pass  # it ended, in whatever way: nothing is lost by asking again
            finally:
                connection.close()

    def request(self, method, path, body=None, query=None, repeatable=None):
        """Any request of the API. A write is sent again after a lost answer only if it is `repeatable`."""
        repeatable = method == "GET" if repeatable is None else repeatable
        data = None if body is None else json.dumps(body).encode()
        answer = self._ask(method, path + _query(query or {}), data, {}, repeatable)
        try:
            return json.loads(answer, object_hook=_from_json)
        except ValueError as error:
            raise FolioError(f"what answers is no Folio node: {error}") from error

    def _ask(self, method, path, data, headers, repeatable, stream=False):
        """The answer of whatever node can give it: its bytes, or the response to read it from."""
        end, place, asked, rounds, doubt = time.monotonic() + self._deadline, self._leader, 0, 0, None
        while (left := end - time.monotonic()) > 0:
            pause = 0.0
            asked += 1
            # What cannot be repeated is worth waiting for.
            patience = min(left, self._patience) if repeatable else left
            try:
                return self._exchange(place, patience, method, path, data, headers, stream)
            except _Sent as error:
                last = doubt = str(error)
                if not repeatable:
                    raise OutcomeUnknown(last) from error
                place = (place + 1) % len(self._nodes)
            except _Later as later:
                last, pause = str(later), later.wait
                place = self._place(later.leader, place)
            if asked % (len(self._nodes) + 1) == 0:
                most = min(FIRST_PAUSE * 2**rounds, LONGEST_PAUSE)
                pause, rounds = max(pause, random.uniform(0, most)), min(rounds + 1, 10)
            time.sleep(max(0, min(pause, end - time.monotonic())))
        if doubt and method != "GET":
            raise OutcomeUnknown(doubt)
        raise Unavailable(f"no node could answer within {self._deadline} s; the last one: {last}")

    def _place(self, leader, place):
        """The place of the leader that a redirect names, which may be a node that was not known; else the next one."""
        if not leader or (self._nodes[place][0] == "https" and leader[0] != "https"):
            return (place + 1) % len(self._nodes)
        if leader not in self._nodes:
            self._nodes[MAX_NODES - 1 :] = [leader]
        return self._nodes.index(leader)

    def _exchange(self, place, patience, method, path, data, headers, stream):
        scheme, host, port = self._nodes[place]
        node, lost = f"{scheme}://{host}:{port}", _Later
        if scheme == "https" and not self._tls:
            raise FolioError(f"whom to trust at {node}? Name the authority with `ca`")
        secure = {"context": self._tls} if scheme == "https" else {}
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(host, port, timeout=patience, **secure)
        if data is not None:
            headers = {**headers, "Content-Type": "application/json"}
        try:
            connection.connect()
            lost = _Sent
            connection.request(method, path, data, {**self._headers, **headers})
            response = connection.getresponse()
            if stream and response.status == 200:
                connection.sock.settimeout(SILENCE)
                self._leader, stream = place, connection
                return connection, response
            body = response.read(MAX_ANSWER + 1)
        except ssl.SSLCertVerificationError as error:
            raise FolioError(f"{node}: {error.verify_message}") from error
        except (OSError, http.client.HTTPException) as error:
            raise lost(f"{node}: {error or type(error).__name__}") from error
        finally:
            if stream is not connection:
                connection.close()
        if len(body) > MAX_ANSWER:
            raise FolioError(f"{node}: the answer is too long")
        if 200 <= response.status < 300:
            self._leader = place
            return body
        self._judge(node, response, body)

    @staticmethod
    def _judge(node, response, body):
        """What an answer means that is none."""
        if response.getheader("Content-Type") != "application/problem+json":
            error = f"{node}: the status is {response.status}, without a problem document"
            raise _Sent(error) if response.status in (502, 503, 504) else FolioError(error)
        try:
            problem = json.loads(body)
            location, wait = response.getheader("Location"), response.getheader("Retry-After")
            leader = Client._node(location) if location else None
            later = {"leader": leader, "wait": float(wait or 0) if response.status == 429 else 0.0}
        except ValueError as error:
            raise FolioError(f"{node}: the problem document cannot be read: {error}") from error
        code, reason = problem.get("code"), f"{node}: {problem.get('title')}: {problem.get('detail')}"
        if code in DOUBTFUL:
            raise _Sent(reason)
        if code in LATER or response.status in (408, 429, 503):
            raise _Later(reason, **later)
        raise Refused(problem)


class Session:
    """Writes that are carried out once each: the client numbers them, and the cluster remembers the last number and its
    answer. One write is under way at a time; each task that writes has a session of its own."""

    def __init__(self, client, session):
        self._id, self._client, self._sequence, self._pending = session, client, 0, None

    def submit(self, vault, operations, conditions=()):
        """Carries out a transaction, once; gives the receipt."""
        body = {"operations": list(operations), "conditions": list(conditions), "session": self._next()}
        return self._send("POST", f"/v1/vaults/{vault}/transactions", body)

    def create_vault(self, name, retention=0):
        """Creates a vault, once; gives its number."""
        body = {"name": name, "retention": retention, "session": self._next()}
        return self._send("POST", "/v1/vaults", body)["vault"]

    def delete_vault(self, vault):
        """Deletes a vault with everything in it, once."""
        place = self._next()
        return self._send("DELETE", f"/v1/vaults/{vault}?session={place['id']}&sequence={place['sequence']}")

    def settle(self):
        """Sends the write again whose outcome is unknown, and gives its answer; `None` if there is none. After another
        write it is not carried out any more."""
        return self._send(*self._pending) if self._pending else None

    def close(self):
        """Ends the session; the cluster would forget it by itself, later."""
        try:
            self._send("DELETE", f"/v1/sessions/{self._id}?sequence={self._next()['sequence']}")
        except Refused as refused:
            # Ended by an attempt whose answer was lost, or because it was not used for long.
            if refused.code != "session_expired":
                raise

    def _next(self):
        self._sequence += 1
        return {"id": self._id, "sequence": self._sequence}

    def _send(self, method, path, body=None):
        self._pending = (method, path, body)
        try:
            answer = self._client.request(method, path, body, repeatable=True)
        except (Refused, Unavailable):
            self._pending = None
            raise
        self._pending = None
        return answer

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.close()


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happened: `transaction`, `block` or `vault_deleted`; `id` is for `changes(after=...)`."""

    kind: str
    id: str
    data: dict


def _events(response):
    kind, number, data = "", None, []
    while line := response.readline(MAX_ANSWER):
        name, _, value = line.decode(errors="replace").rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "id":
            number = value
        elif name == "data":
            data.append(value)
        elif not name and not value and kind:
            yield Event(kind, number, json.loads("\n".join(data), object_hook=_from_json))
            kind, number, data = "", None, []


def _quote(key):
    """A key in a path: a dot, too, since alone between slashes it would be a step in the path."""
    return quote(key, safe="").replace(".", "%2E")


def _query(parameters):
    given = {name: value for name, value in parameters.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""
