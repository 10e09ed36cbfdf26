#!/usr/bin/env bash
# Three nodes and their clients in network namespaces of their own, whose links lose packets and are cut and whose clocks jump.
# Every write that was acknowledged is there at the end, and every node's file is sound. Needs root, ip, nft and the library
# libfaketime, and takes a minute or two:
#   cargo build --release && sudo tests/nemesis.sh target/release/folio
set -euo pipefail
folio=$(realpath "${1:-target/release/folio}")
[ "$(id -u)" = 0 ] || { echo "nemesis.sh: namespaces need root" >&2; exit 2; }
for program in ip nft; do
    command -v "$program" >/dev/null || { echo "nemesis.sh: there is no $program" >&2; exit 2; }
done

faketime=$(echo /usr/lib/*/faketime/libfaketimeMT.so.1)
[ -e "$faketime" ] || { echo "nemesis.sh: there is no libfaketime" >&2; exit 2; }

mark=folio$$
work=$(mktemp -d)
pids=()
over() {
    for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    for name in hub 1 2 3 9; do ip netns delete "$mark-$name" 2>/dev/null || true; done
    rm -rf "$work"
}
trap over EXIT

# A switch, and a cable from it to each of the others.
ip netns add "$mark-hub"
ip -n "$mark-hub" link add switch type bridge
ip -n "$mark-hub" link set switch up
for id in 1 2 3 9; do
    ip netns add "$mark-$id"
    ip -n "$mark-hub" link add "port$id" type veth peer name eth0 netns "$mark-$id"
    ip -n "$mark-hub" link set "port$id" master switch up
    ip -n "$mark-$id" address add "10.77.0.$id/24" dev eth0
    ip -n "$mark-$id" link set eth0 up
    ip -n "$mark-$id" link set lo up
done
# Has the switch lose so many frames of a hundred, of every kind and in every direction.
in_hub() { ip netns exec "$mark-hub" "$@"; }
in_hub nft add table bridge loss
in_hub nft add chain bridge loss forward '{ type filter hook forward priority 0; }'
lose() {
    in_hub nft flush chain bridge loss forward
    [ "$1" = 0 ] || in_hub nft add rule bridge loss forward numgen random mod 100 '<' "$1" counter drop
}
lost() { in_hub nft list chain bridge loss forward | sed -n 's/.*packets \([0-9]*\).*/\1/p'; }
cut_off() { ip -n "$mark-hub" link set "port$1" down; }
mend() { ip -n "$mark-hub" link set "port$1" up; }

# The time of day of a node, in seconds from the right one. What measures how long something takes is not touched.
set_clock() { printf %+d "$2" >"$work/clock.$1"; }

serve() {
    local id=$1
    shift
    set_clock "$id" 0
    ip netns exec "$mark-$id" env LD_PRELOAD="$faketime" FAKETIME_TIMESTAMP_FILE="$work/clock.$id" FAKETIME_NO_CACHE=1 \
        FAKETIME_DONT_FAKE_MONOTONIC=1 "$folio" serve --data "$work/$id" --insecure-network \
        --listen "10.77.0.$id:7001" --peer-listen "10.77.0.$id:7101" "$@" >"$work/$id.log" 2>&1 &
    pids+=($!)
    timeout 60 sh -c "until grep -q '^node ' '$work/$id.log'; do sleep 0.1; done" || { cat "$work/$id.log"; exit 1; }
}
export FOLIO_NODE=http://10.77.0.1:7001,http://10.77.0.2:7001,http://10.77.0.3:7001
ask() { ip netns exec "$mark-9" "$folio" "$@"; }
block_time() { ask vaults --format json | sed -n 's/^ *"time": \([0-9]*\)[0-9]\{6\},*$/\1/p'; }
leader() { ask members --format json --timeout 60s | sed -n 's/^ *"leader": \([0-9]*\).*/\1/p'; }

serve 1 --init
serve 2 --join "$work/1/invitation"
serve 3 --join "$work/1/invitation"
vault=$(ask vaults create load)

for writer in 1 2 3; do
    (
        number=0
        while [ ! -e "$work/stop" ]; do
            number=$((number + 1))
            if ask put "$vault" "$writer/$number" "$number" --timeout 60s >/dev/null 2>>"$work/refused"; then
                echo "$writer/$number" >>"$work/answered.$writer"
            fi
        done
    ) &
    pids+=($!)
    writers+=($!)
done
answered() { cat "$work"/answered.* 2>/dev/null | wc -l; }
go_on() {
    local goal=$(($(answered) + $1)) patience=$((SECONDS + 120))
    while [ "$(answered)" -lt "$goal" ]; do
        [ "$SECONDS" -lt "$patience" ] || { echo "nemesis.sh: no writes any more: $2" >&2; tail -3 "$work/refused" "$work"/*.log; exit 1; }
        sleep 0.1
    done
    echo "$2: $(answered) writes answered"
}

go_on 20 "whole"
lose 10
go_on 20 "a tenth of the packets lost"
echo "$(lost) packets lost"
lose 0
for _ in 1 2 3; do
    old=$(leader)
    cut_off "$old"
    go_on 20 "node $old, which led, cut off"
    mend "$old"
    go_on 10 "mended"
done
lose 30
go_on 10 "three of ten packets lost"
echo "$(lost) packets lost"
lose 0
go_on 20 "whole again"
for jump in 3600 -3600 0; do
    id=$(leader)
    set_clock "$id" "$jump"
    set_clock $((id % 3 + 1)) "$((-jump))"
    go_on 20 "the clock of node $id, which leads, $jump s from the right time"
    # Blocks have the leader's time, and never an earlier one than the block before.
    ahead=$(($(block_time) - $(date +%s)))
    [ "$ahead" -gt 3000 ] || { echo "nemesis.sh: the clock did not jump: blocks are $ahead s ahead" >&2; exit 1; }
done
touch "$work/stop"
wait "${writers[@]}"

ask list "$vault" --limit 1000000 --format json | sed -n 's/^ *"key": "\(.*\)",*/\1/p' | sort >"$work/there"
sort "$work"/answered.* >"$work/answered"
missing=$(comm -23 "$work/answered" "$work/there")
[ -z "$missing" ] || { echo "nemesis.sh: answered, and not there: $missing" >&2; exit 1; }
ask status --timeout 60s
for pid in "${pids[@]:0:3}"; do kill "$pid"; done
wait "${pids[@]:0:3}" || true
for id in 1 2 3; do "$folio" verify "$work/$id/node.folio" >"$work/verified" || { cat "$work/verified"; exit 1; }; done
echo "$(wc -l <"$work/answered") answered writes are there, and three files are sound"
