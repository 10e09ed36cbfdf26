#!/usr/bin/env python3
"""Writes the test vectors beside it.

A second implementation of the ledger's hashing, in another language and from the documentation alone, so that the
vectors check the documentation as well as the code. Run it without arguments; it needs nothing but Python 3. The files
are part of the format: a change that alters one breaks every ledger that exists.
"""

import hashlib
import json
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
EMPTY = hashlib.sha256().digest()


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def u32(n):
    return struct.pack(">I", n)


def u64(n):
    return struct.pack(">Q", n)


def string(b):
    return u32(len(b)) + b


def optional(n):
    return b"\x00" if n is None else b"\x01" + u64(n)


# RFC 6962, section 2.1


def leaf(data):
    return sha256(b"\x00", data)


def node(left, right):
    return sha256(b"\x01", left, right)


def tree(leaves):
    """The root over leaf hashes."""
    if not leaves:
        return EMPTY
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return node(tree(leaves[:k]), tree(leaves[k:]))


def inclusion(m, leaves):
    """PATH of RFC 6962."""
    if len(leaves) == 1:
        return []
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m < k:
        return inclusion(m, leaves[:k]) + [tree(leaves[k:])]
    return inclusion(m - k, leaves[k:]) + [tree(leaves[:k])]


def consistency(m, leaves, known=True):
    """SUBPROOF of RFC 6962."""
    if m == len(leaves):
        return [] if known else [tree(leaves)]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m <= k:
        return consistency(m, leaves[:k], known) + [tree(leaves[k:])]
    return consistency(m - k, leaves[k:], False) + [tree(leaves[:k])]


# The state


def entity_item(key, entity):
    version, expires_at, value = entity
    return sha256(b"\x02\x01", key), sha256(b"\x03", u64(version), optional(expires_at), value)


def relationship_item(names):
    return sha256(b"\x02\x02", *(string(n.encode()) for n in names)), sha256(b"\x03")


def items_of(entities, relationships):
    items = [entity_item(k, e) for k, e in entities.items()] + [relationship_item(r) for r in relationships]
    return sorted(items)


def bit(path, depth):
    return path[depth // 8] >> (7 - depth % 8) & 1


def subtree(items, depth=0):
    if not items:
        return EMPTY
    if len(items) <= 8:
        return leaf(b"".join(p + c for p, c in items))
    return node(*(subtree([i for i in items if bit(i[0], depth) == side], depth + 1) for side in (0, 1)))


def prove(items, path):
    siblings, depth = [], 0
    while len(items) > 8:
        halves = [[i for i in items if bit(i[0], depth) == side] for side in (0, 1)]
        side = bit(path, depth)
        depth += 1
        siblings.append(subtree(halves[1 - side], depth).hex())
        items = halves[side]
    return {"siblings": siblings, "bucket": [{"path": p.hex(), "content": c.hex()} for p, c in items]}


def state_vectors():
    few = ({b"colour": (1, None, b"blue"), b"\x00\xff": (2**40, 1700000000000000, b"")}, [("car:1", "owner", "user:7")])
    many = (
        {b"key %d" % n: (n + 1, n * 1000 if n % 5 == 0 else None, b"v" * (n % 40)) for n in range(150)},
        [("doc:%d" % (n % 7), "viewer" if n % 2 else "éditeur", "user:%d" % n) for n in range(80)],
    )
    eight = ({b"%d" % n: (1, None, b"") for n in range(8)}, [])
    nine = ({b"%d" % n: (1, None, b"") for n in range(9)}, [])
    cases = []
    for name, (entities, relationships) in {
        "nothing": ({}, []), "a few items": few, "a full bucket": eight, "one item more than a bucket holds": nine,
        "some hundred items": many,
    }.items():
        items = items_of(entities, relationships)
        keys = list(entities)[:3] + [b"absent"]
        proofs = [{"entity": k.hex(), "present": k in entities} | prove(items, sha256(b"\x02\x01", k)) for k in keys]
        cases.append({
            "name": name,
            "entities": [
                {"key": k.hex(), "version": v, "expires_at": x, "value": b.hex(),
                 "path": entity_item(k, (v, x, b))[0].hex(), "content": entity_item(k, (v, x, b))[1].hex()}
                for k, (v, x, b) in entities.items()
            ],
            "relationships": [
                {"names": r, "path": relationship_item(r)[0].hex(), "content": relationship_item(r)[1].hex()}
                for r in relationships
            ],
            "root": subtree(items).hex(),
            "proofs": proofs,
        })
    return cases


# Transactions: ("set", key, value, expires_at) | ("delete", key) | ("relate", names) | ("unrelate", names)


def names_bytes(names):
    return b"".join(string(n.encode()) for n in names)


def operation_bytes(op):
    match op:
        case ("set", key, value, expires_at):
            return b"\x01" + string(key) + string(value) + optional(expires_at)
        case ("delete", key):
            return b"\x02" + string(key)
        case ("relate", names):
            return b"\x03" + names_bytes(names)
        case ("unrelate", names):
            return b"\x04" + names_bytes(names)


def condition_bytes(condition):
    target, requirement = condition
    out = b"\x01" + string(target) if isinstance(target, bytes) else b"\x02" + names_bytes(target)
    match requirement:
        case "must_exist":
            return out + b"\x01"
        case "must_not_exist":
            return out + b"\x02"
        case int():
            return out + b"\x03" + u64(requirement)
        case bytes():
            return out + b"\x04" + string(requirement)


# Outcomes: "unchanged" | ("set", version) | ("deleted", version) | "created" | "removed"


def outcome_bytes(outcome):
    match outcome:
        case "unchanged":
            return b"\x00"
        case ("set", version):
            return b"\x01" + u64(version)
        case ("deleted", version):
            return b"\x02" + u64(version)
        case "created":
            return b"\x03"
        case "removed":
            return b"\x04"


# Origins: "client" | "expiry" | (session, sequence)


def origin_bytes(origin):
    match origin:
        case "client":
            return b"\x00"
        case (session, sequence):
            return b"\x01" + u64(session) + u64(sequence)
        case "expiry":
            return b"\x02"


def record_bytes(vault, operations, outcomes, conditions=(), origin="client"):
    out = b"\x01" + u64(vault) + origin_bytes(origin)
    out += u32(len(conditions)) + b"".join(map(condition_bytes, conditions))
    out += u32(len(operations)) + b"".join(map(operation_bytes, operations))
    return out + b"".join(map(outcome_bytes, outcomes))


def relationship_json(names):
    return dict(zip(("resource", "relation", "subject"), names))


def operation_json(op):
    match op:
        case ("set", key, value, expires_at):
            return {"set_entity": {"key": list(key), "value": list(value), "expires_at": expires_at}}
        case ("delete", key):
            return {"delete_entity": {"key": list(key)}}
        case ("relate", names):
            return {"create_relationship": relationship_json(names)}
        case ("unrelate", names):
            return {"delete_relationship": relationship_json(names)}


def condition_json(condition):
    target, requirement = condition
    target = {"entity": list(target)} if isinstance(target, bytes) else {"relationship": relationship_json(target)}
    match requirement:
        case int():
            requirement = {"version_is": requirement}
        case bytes():
            requirement = {"value_is": list(requirement)}
    return {"target": target, "requirement": requirement}


def transaction_json(vault, operations, conditions=()):
    return {"vault": vault, "conditions": [condition_json(c) for c in conditions],
            "operations": [operation_json(o) for o in operations]}


def outcome_json(outcome):
    match outcome:
        case ("set", 1):
            return "entity_created"
        case ("set", version):
            return {"entity_updated": {"version": version}}
        case ("deleted", version):
            return {"entity_deleted": {"version": version}}
        case "created" | "removed":
            return {"created": "relationship_created", "removed": "relationship_deleted"}[outcome]
        case "unchanged":
            return "unchanged"


def origin_json(origin):
    match origin:
        case (session, sequence):
            return {"session": {"session": session, "sequence": sequence}}
        case _:
            return origin


def record_vectors():
    car = ("car:1", "owner", "üser:7")
    operations = [("set", b"k", b"value", None), ("set", b"\x00", b"", 2**63), ("delete", b"k"),
                  ("relate", car), ("unrelate", car), ("unrelate", car)]
    outcomes = [("set", 1), ("set", 2**40), ("deleted", 1), "created", "removed", "unchanged"]
    conditions = [(b"a", "must_exist"), (b"b", "must_not_exist"), (b"c", 7), (b"d", b"\x00\xff"), (car, "must_exist")]
    cases = []
    for origin in ("client", (3, 9), "expiry"):
        for ops, outs, conds in ((operations[:1], outcomes[:1], []), (operations, outcomes, conditions)):
            encoded = record_bytes(2**40, ops, outs, conds, origin)
            cases.append({
                "record": {"origin": origin_json(origin), "transaction": transaction_json(2**40, ops, conds),
                           "outcomes": [outcome_json(o) for o in outs]},
                "encoded": encoded.hex(),
                "leaf_hash": leaf(encoded).hex(),
            })
    return cases


# A vault from its creation on


def header_bytes(h):
    return (b"\x01" + u64(h["vault"]) + u64(h["height"]) + u64(h["log_index"]) + u64(h["log_term"]) + u64(h["time"])
            + bytes.fromhex(h["previous"]) + bytes.fromhex(h["history_root"]) + u32(h["transactions"])
            + bytes.fromhex(h["transactions_root"]) + u64(h["entities"]) + u64(h["relationships"])
            + bytes.fromhex(h["state_root"]))


def history_vectors():
    entities, relationships, hashes, entries = {}, set(), [], []

    def seal(index, transactions):
        header = {
            "vault": 1, "height": len(hashes), "log_index": index, "log_term": 1 + index // 10, "time": index * 1000,
            "previous": (hashes[-1] if hashes else bytes(32)).hex(), "history_root": tree(hashes).hex(),
            "transactions": len(transactions), "transactions_root": tree([leaf(t) for t in transactions]).hex(),
            "entities": len(entities), "relationships": len(relationships),
            "state_root": subtree(items_of(entities, relationships)).hex(),
        }
        hashes.append(leaf(header_bytes(header)))
        return {"header": header, "encoded": header_bytes(header).hex(), "hash": hashes[-1].hex()}

    def apply(op):
        match op:
            case ("set", key, value, expires_at):
                entities[key] = (entities.get(key, (0,))[0] + 1, expires_at, value)
                return "set", entities[key][0]
            case ("delete", key):
                return ("deleted", entities.pop(key)[0]) if key in entities else "unchanged"
            case ("relate", names):
                was = names in relationships
                relationships.add(names)
                return "unchanged" if was else "created"
            case ("unrelate", names):
                was = names in relationships
                relationships.discard(names)
                return "removed" if was else "unchanged"

    def expire(now):
        due = sorted((e[1], key) for key, e in entities.items() if e[1] is not None and e[1] <= now)
        operations = [("delete", key) for _, key in due]
        return [record_bytes(1, operations, [apply(op) for op in operations], origin="expiry")] if due else []

    create = {"create_vault": {"name": "golden", "retention": 0}}
    entries.append({"commands": [{"session": None, "action": create}], "block": seal(1, [])})
    state = 1
    for index in range(2, 26):
        commands, encoded = [], expire(index * 1000)
        for _ in range(index % 4 + 1):
            operations = []
            for _ in range(index % 5 + 1):
                state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
                kind, a, b = state >> 61, state >> 40 & 31, state >> 50 & 7
                names = ("doc:%d" % a, "viewer", "user:%d" % b)
                key = b"entity %d" % a
                operations.append([("set", key, b"value %d" % b, None), ("set", key, bytes([b]), (index + b) * 1000), ("delete", key),
                                   ("relate", names), ("relate", names[:2] + ("user:0",)), ("unrelate", names),
                                   ("set", key + b"/x", b"", None), ("set", b"one", b"%d" % index, None)][kind])
            encoded.append(record_bytes(1, operations, [apply(op) for op in operations]))
            commands.append({"session": None, "action": {"submit": transaction_json(1, operations)}})
        entries.append({"commands": commands, "block": seal(index, encoded)})
    return entries


def chain_vectors(entries):
    """Extensions of the chain of the history."""
    blocks = [entry["block"] for entry in entries]
    hashes = [bytes.fromhex(block["hash"]) for block in blocks]
    cases = []
    for earlier, later in ((0, 1), (0, 24), (1, 2), (3, 7), (4, 7), (6, 8), (7, 8), (8, 9), (13, 24), (16, 24), (23, 24), (24, 24)):
        block = [] if earlier == later else inclusion(earlier, hashes[:later])
        history = consistency(earlier, hashes[:later]) if earlier else []
        cases.append({
            "earlier": blocks[earlier]["header"], "later": blocks[later]["header"],
            "proof": {"block": {"height": earlier, "path": [h.hex() for h in block]}, "history": [h.hex() for h in history]},
        })
    return cases


history = history_vectors()
for name, vectors in (("state", state_vectors()), ("records", record_vectors()), ("history", history), ("chain", chain_vectors(history))):
    lines = ",\n".join(json.dumps(vector, ensure_ascii=False) for vector in vectors)
    (HERE / f"{name}.json").write_text(f"[\n{lines}\n]\n")
