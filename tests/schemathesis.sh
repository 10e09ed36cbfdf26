#!/usr/bin/env bash
# Has schemathesis attack a node with requests made from its OpenAPI document: no answer may have a status of 5xx, nor be
# other than the document says. Usage: tests/schemathesis.sh [FOLIO] [EXAMPLES], random ones only if
# their number is given; needs python3, and PyPI the first time.
set -euo pipefail
cd "$(dirname "$0")/.."
folio=$(realpath "${1:-target/debug/folio}")
examples=${2:-20}
work=$(mktemp -d)
node=
trap 'if [ -n "$node" ]; then kill -9 "$node"; wait "$node" 2>/dev/null || true; fi; rm -rf "$work"' EXIT

venv=${SCHEMATHESIS_VENV:-target/schemathesis}
if [ ! -x "$venv/bin/schemathesis" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'schemathesis==4.32.5' 'openapi-spec-validator==0.9.0' || {
        echo 'schemathesis cannot be installed: is PyPI reachable?' >&2
        exit 1
    }
fi

port() { python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
api=127.0.0.1:$(port)
"$folio" serve --id 1 --file "$work/node.folio" --init --listen "$api" --peer-listen "127.0.0.1:$(port)" \
    >"$work/out" 2>"$work/log" &
node=$!
until curl -sf "http://$api/v1/health/ready" >/dev/null; do
    kill -0 "$node" || { cat "$work/log"; exit 1; }
done
curl -sf "http://$api/v1/openapi.json" >"$work/openapi.json"
"$venv/bin/openapi-spec-validator" "$work/openapi.json"
# Vaults to find, of which one has blocks.
for name in first second third; do
    curl -sf "http://$api/v1/vaults" --json "{\"name\": \"$name\", \"retention\": 5}" >/dev/null
done
curl -sf "http://$api/v1/vaults/1/transactions" --json '{"operations": [{"set": {"key": "0", "value": "blue"}}]}' >/dev/null

# Left out: the feed, which does not end; and the check that a request is accepted if it has the right form, since sizes in
# bytes, page tokens and sessions that are over are no matter of form.
attack() {
    timeout 100 "$venv/bin/schemathesis" run "http://$api/v1/openapi.json" "$@" --seed 1 --max-examples "$examples" \
        --exclude-operation-id changes --exclude-checks positive_data_acceptance \
        --suppress-health-check all --generation-database none --no-color
}
# Threads of CPython 3.11 may not parse Python at the same time, which the first of these does.
attack --phases coverage --workers 1
if [ -n "${2:-}" ]; then
    # A node that is added is waited for, and these are at addresses where there is none.
    attack --phases fuzzing --workers 8 --exclude-operation-id add_member --exclude-operation-id enter
fi
kill -0 "$node" || { echo 'the node is gone' >&2; cat "$work/log"; exit 1; }
