#!/usr/bin/env bash
# The experiments by which the shops of the past were judged, on this machine: `weft up` with one shop's policy, siege as its
# customers, and a table of what came of it.
#
#   run.sh [--quick] [fun-shop] [course] [food-delivery]      all of them, if none is named
#
# An experiment is a folder here, laid over ../../manifests/{shop,gateway}: a file of the same name takes the other's
# place. Everything runs on loopback addresses of its own (127.77.0.0/16), beside any other `weft up`, and is
# gone at the end. WEFT says which binary to use [default: target/release/weft, else target/debug/weft].
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

fail() {
    echo "run.sh: $*" >&2
    exit 1
}

short=10 long=60
chosen=()
for word in "$@"; do
    case $word in
        --quick) short=3 long=8 ;;
        -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
        fun-shop | course | food-delivery) chosen+=("$word") ;;
        *) echo "run.sh: no experiment $word; there are fun-shop, course and food-delivery" >&2; exit 2 ;;
    esac
done
if ((${#chosen[@]} == 0)); then chosen=(fun-shop course food-delivery); fi

command -v siege >/dev/null || fail "siege is not installed; on Debian and Ubuntu: sudo apt-get install siege"
command -v curl >/dev/null || fail "curl is not installed; on Debian and Ubuntu: sudo apt-get install curl"
weft=${WEFT:-$root/target/release/weft}
if [[ -z ${WEFT:-} && ! -x $weft ]]; then weft=$root/target/debug/weft; fi
[[ -x $weft ]] || fail "there is no $weft; build it (cargo build --release) or say where it is: WEFT=…"

network=127.77
door=http://$network.0.1:8080
work=$(mktemp -d)
up=

# Ends the mesh that runs, if one does: it drains, and is killed if it does not come to an end.
stop() {
    [[ -n $up ]] || return 0
    kill -INT "$up" 2>/dev/null || true
    for _ in {1..100}; do
        kill -0 "$up" 2>/dev/null || break
        sleep 0.2
    done
    kill -KILL "$up" 2>/dev/null || true
    wait "$up" 2>/dev/null || true
    up=
}
trap 'stop; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

cat >"$work/siegerc" <<'RC'
verbose = false
color = off
json_output = true
show-logfile = false
logging = false
parser = false
protocol = HTTP/1.1
cache = false
connection = keep-alive
timeout = 30
limit = 255
failures = 1000000
RC

# Starts the shop with the experiment `$1` laid over it, and waits until it answers.
start() {
    rm -rf "$work/manifests" "$work/state"
    mkdir "$work/manifests"
    cp -r "$root/manifests/shop" "$root/manifests/gateway" "$here/$1/." "$work/manifests/"
    # In the background, bash has programs ignore Ctrl-C unless jobs are theirs to control.
    set -m
    "$weft" up --dir "$work/manifests" --state "$work/state" --pod-cidr "$network.0.0/16" --bind "$network.0.1" \
        >"$work/up.log" 2>&1 &
    up=$!
    set +m
    local path
    for path in /inventories /payments /deliveries /orders; do ready "$path"; done
    local tv='{"productId": 1, "productName": "TV", "stock": 1000000}'
    curl -fsS --max-time 10 -o /dev/null "$door/inventories" -H 'content-type: application/json' -d "$tv" ||
        fail "product takes no inventory"
}

ready() {
    for _ in {1..300}; do
        kill -0 "$up" 2>/dev/null || { cat "$work/up.log" >&2; fail "weft up ended"; }
        if curl -fs --max-time 2 -o /dev/null "$door$1"; then return; fi
        sleep 0.2
    done
    cat "$work/up.log" >&2
    fail "$1 is not answered within a minute"
}

# The most requests that a pod of `$1` had at once, by its own account; the pods' answers with a slash between.
most() {
    local address said
    tr -d ' \n' <"$work/state/up.json" | grep -o "\"deployment\":\"$1\",[^{}]*\"app_address\":\"[0-9.]*\"" |
        grep -o '[0-9.]*"$' | tr -d '"' | while read -r address; do
        said=$(curl -fs --max-time 2 "http://$address:8080/actuator/concurrency" || true)
        grep -o '"most":[0-9]*' <<<"$said" | cut -d: -f2 || echo '?'
    done | paste -sd/ -
}

# measure WHAT SERVICE CLIENTS SECONDS TARGET: a row of the table; SERVICE is the one that the policy protects.
measure() {
    local what=$1 service=$2 clients=$3 seconds=$4 target=$5 row
    timeout --kill-after=5 $((seconds + 60)) siege -R "$work/siegerc" -b -c "$clients" -t "${seconds}S" \
        -T application/json "$target" >"$work/siege.log" 2>&1 </dev/null || true
    row=$(awk -f "$here/siege.awk" "$work/siege.log") || { tail -n 20 "$work/siege.log" >&2; fail "siege told nothing"; }
    local requests availability refused longest
    read -r requests availability refused longest <<<"$row"
    printf '%-42s %9s %9s %9s %10s  %s\n' \
        "$what" "$requests" "$availability" "$refused" "$longest" "$service $(most "$service")"
}

fun-shop() {
    start fun-shop
    measure "fun shop, -c1 -t${short}S" order 1 "$short" "$door/orders"
    measure "fun shop, -c10 -t${short}S" order 10 "$short" "$door/orders"
    stop
}

course() {
    start course
    measure "course, -c2 -t${short}S" delivery 2 "$short" "$door/deliveries"
    stop
}

food-delivery() {
    local order="$door/orders POST {\"productId\": 1, \"productName\": \"TV\", \"qty\": 1, \"customerId\": 100}"
    start food-delivery
    measure "food delivery, -c100 -t${long}S" payment 100 "$long" "$order"
    # The same shop, while it runs: the policy's files are replaced, and then there are more pods.
    cp -r "$here/food-delivery-retries/." "$work/manifests/"
    "$weft" scale payment 3 --state "$work/state" >/dev/null
    three_payments
    measure "  with retries, budget, 3 payments" payment 100 "$long" "$order"
    stop
}

three_payments() {
    for _ in {1..300}; do
        if (($(tr -d ' \n' <"$work/state/up.json" | grep -o '"deployment":"payment",[^{}]*"ready":true' | wc -l) == 3)); then
            return
        fi
        sleep 0.2
    done
    fail "three payments are not ready within a minute"
}

printf '%-42s %9s %9s %9s %10s  %s\n' experiment requests avail.% refused longest/s 'most at once, in each pod'
for experiment in "${chosen[@]}"; do "$experiment"; done
