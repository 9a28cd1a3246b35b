#!/usr/bin/env bash
# What a newcomer does: a new HOME, a fresh clone, the README's commands as they stand (but for the tests),
# then tables of their own, from `init` to a recommendation over HTTP.
#
#   tests/newcomer.sh [FOLDER]    the clone lies in FOLDER, or in a temporary folder that is removed
#
# Needs make, coreutils, and Python 3.11 with venv and pip. A server whose port another program has gets a free
# one, and that is said. A copy without git stands in for the clone where git does not read the repository.
# No step may take longer than STEP_SECONDS (2700).
set -euo pipefail
# In the foreground: in its own process group, no Ctrl-C and no timeout around this script would reach it.
limited() { timeout --foreground -k 30 "${STEP_SECONDS:-2700}" "$@"; }
repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
scratch="$(mktemp -d)"
server=""
finish() {
  if [[ -n "$server" ]] && kill -INT "$server" 2>/dev/null; then
    sleep 5
    kill -9 "$server" 2>/dev/null || true
  fi
  rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT TERM
clone="${1:-$scratch/painvrl}"
# Where packages come from is the machine's business, also if that is said below the old HOME.
[[ -n "${PIP_CONFIG_FILE:-}" || ! -f "$HOME/.config/pip/pip.conf" ]] ||
  export PIP_CONFIG_FILE="$HOME/.config/pip/pip.conf"
export PIP_CACHE_DIR="${PIP_CACHE_DIR:-$HOME/.cache/pip}"
export HOME="$scratch/home" MLFLOW_DISABLE_TELEMETRY=true
export OMP_NUM_THREADS=2 # what is computed is counted below, of all threads together
mkdir "$HOME"
unset PYTHONPATH VIRTUAL_ENV PAINVRL_WORKSPACE MLFLOW_TRACKING_URI

if ! limited git clone --quiet "$repository" "$clone"; then
  rm -rf "$clone" && mkdir -p "$clone"
  tar -C "$repository" --exclude=./.venv --exclude=./workspace --exclude=./.git -cf - . | tar -C "$clone" -xf -
fi
cd "$clone"

# Ask a server until it answers, for at most two minutes.
answered() {
  .venv/bin/python - "$@" <<'PYTHON'
import sys, time, urllib.error, urllib.request
url, *body = sys.argv[1:]
deadline = time.monotonic() + 120
while time.monotonic() < deadline:
    try:
        data = body[0].encode() if body else None
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        print(urllib.request.urlopen(request, timeout=5).read().decode())
        break
    except urllib.error.HTTPError as error:
        sys.exit(f"{url}: {error.code} {error.read().decode()}")
    except OSError:
        time.sleep(0.5)
else:
    sys.exit(f"{url} does not answer")
PYTHON
}

# The port of a command, or a free one where another program has it.
port_for() {
  .venv/bin/python - "$1" <<'PYTHON'
import socket, sys
for port in (int(sys.argv[1]), 0):
    try:
        with socket.create_server(("127.0.0.1", port)) as server:
            print(server.getsockname()[1])
        break
    except OSError:
        print(f"port {port} is taken here, so the command gets --port and a free one", file=sys.stderr)
PYTHON
}

# Set `seconds` to what the commands so far have computed: what else the machine does is not in it.
computed() {
  times >"$scratch/times" # not in a pipe, whose shell has computed nothing
  seconds="$(awk 'NR == 2 { gsub("s", ""); split($1, user, "m"); split($2, kernel, "m");
    printf "%d", 60 * (user[1] + kernel[1]) + user[2] + kernel[2] }' "$scratch/times")"
}

# Start a server in the background on its port, ask a path of it, and end it as Ctrl-C does. Python gives
# SIGINT back its meaning, which is ignored below a shell that runs in the background itself.
served() {
  local port path="$2" body="$3" listen url
  port="$(port_for "$1")"
  url="http://127.0.0.1:$port$path"
  [[ "$port" == "$1" ]] || set -- "$@" --port "$port"
  shift 3
  listen='import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])'
  .venv/bin/python -c "$listen" "$@" &
  server=$!
  if [[ -n "$body" ]]; then answered "$url" "$body" >answer.json; else answered "$url" >/dev/null; fi
  kill -INT "$server"
  for _ in $(seq 120); do
    kill -0 "$server" 2>/dev/null || break
    sleep 0.5
  done
  if kill -9 "$server" 2>/dev/null; then
    echo "$* does not end by Ctrl-C" >&2
    exit 1
  fi
  server=""
}

own_tables() {
  mkdir -p data
  .venv/bin/python - <<'PYTHON'
import random
random.seed(0)
kinds = ["tea", "coffee", "cocoa", "juice"]
items = [(f"P{number:04d}", kinds[number % 4]) for number in range(80)]
with open("data/items.csv", "w") as file:
    print("item_id,name,tags", file=file)
    for item, kind in items:
        print(f"{item},{kind} of farm {item[1:]},{kind}|{'hot' if kind != 'juice' else 'cold'}", file=file)
with open("data/interactions.csv", "w") as file:
    print("user_id,item_id,timestamp", file=file)
    for user in range(120):
        likes = kinds[user % 4]
        near = [item for item, kind in items if kind == likes]
        taken = set(random.sample(near, 9)) | {item for item, _ in random.sample(items, 6)}
        for place, item in enumerate(sorted(taken)):
            print(f"u{user:03d},{item},{1700000000 + 86400 * (7 * user + place)}", file=file)
PYTHON
}

# Read by a descriptor of its own: what a command reads from standard input is not the list.
while IFS= read -r -u 3 command; do
  echo "== $command"
  case "$command" in
    "make test") echo "(left out)" ;;
    *"painvrl init"*) own_tables && limited $command ;;
    *"painvrl ui") served 5000 / "" $command ;;
    *) limited $command ;;
  esac
done 3< <(sed -n 's/^\$ //p' README.md)

echo "== own tables, from init to a recommendation"
computed
before="$seconds"
painvrl=".venv/bin/painvrl"
limited $painvrl init data/interactions.csv data/items.csv --output studies/shop.yaml --yes
limited $painvrl study run studies/shop.yaml --trials 6 --workspace shop
limited $painvrl train --best --workspace shop
question='{"dataframe_split": {"columns": ["user"], "data": [["u007"], ["nobody"]]}, "params": {"k": 3}}'
served 5001 /invocations "$question" $painvrl serve --workspace shop
.venv/bin/python - <<'PYTHON'
import json
rows = json.load(open("answer.json"))["predictions"]
print(rows)
known = [row for row in rows if row["user"] == "u007"]
assert len(known) == 3 and all(row["item"].startswith("P") for row in known), rows
assert any(row["user"] == "nobody" for row in rows), rows
PYTHON
computed
took=$((seconds - before))
echo "own tables took $took s of computing"
((took < 300)) || { echo "that is more than 5 minutes" >&2; exit 1; }
