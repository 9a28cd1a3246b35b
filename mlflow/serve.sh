#!/usr/bin/env bash
# Starts an MLflow tracking server for several users or machines; `painvrl ui` is enough for one.
# Settings come from server.env beside this file, or from the environment, which wins.
# `serve.sh --print` shows what would be run; every other option goes to `mlflow server`.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(dirname "$here")"

if [[ -f "$here/server.env" ]]; then
  while IFS= read -r line || [[ -n "$line" ]]; do  # the last line may end without a newline
    name="${line%%=*}" value="${line#*=}"
    [[ "$name" =~ ^[A-Z_][A-Z0-9_]*$ ]] || continue  # blank lines and comments
    if [[ "$value" =~ ^\"(.*)\"$ || "$value" =~ ^\'(.*)\'$ ]]; then
      value="${BASH_REMATCH[1]}"  # as docker compose reads the same file
    fi
    [[ -n "${!name+set}" ]] || export "$name=$value"
  done < "$here/server.env"
fi

workspace="${PAINVRL_WORKSPACE:-$root/workspace}"
# MLflow takes relative paths from the directory that it is started in: make them absolute.
[[ "$workspace" == /* ]] || workspace="$PWD/$workspace"

python="$root/.venv/bin/python"
[[ -x "$python" ]] || { echo "error: there is no .venv; run \`make install\` first" >&2; exit 2; }

# In the environment and not on the command line, which everybody on the machine can read: it may hold a password.
export MLFLOW_BACKEND_STORE_URI="${MLFLOW_BACKEND_STORE_URI:-sqlite:///$workspace/mlflow.db}"
# The driver that the extra `postgres` brings, where the URL names none.
if [[ "$MLFLOW_BACKEND_STORE_URI" == postgresql://* ]]; then
  MLFLOW_BACKEND_STORE_URI="postgresql+psycopg://${MLFLOW_BACKEND_STORE_URI#postgresql://}"
fi
export MLFLOW_DISABLE_TELEMETRY="${MLFLOW_DISABLE_TELEMETRY:-true}"
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION="${MLFLOW_SERVER_ENABLE_JOB_EXECUTION:-false}"
command=("$python" -m mlflow server
  --artifacts-destination "${MLFLOW_ARTIFACTS_DESTINATION:-$workspace/mlartifacts}"
  --host "${MLFLOW_HOST:-127.0.0.1}"
  --port "${MLFLOW_PORT:-5000}"
  --workers "${MLFLOW_WORKERS:-1}")

if [[ "${1:-}" == "--print" ]]; then
  hide='s#(://[^:/@]*):[^/?]*@#\1:***@#; s#((password|passfile|passwd|token|secret)=)[^&]*#\1***#gI'
  hide+='; s#(://[^:/@]*):[^@]*@#\1:***@#'  # a password that holds what ends the part before the path
  printf 'MLFLOW_BACKEND_STORE_URI=%q ' "$(sed -E "$hide" <<< "$MLFLOW_BACKEND_STORE_URI")"
  printf '%q ' "${command[@]}"
  echo
  exit 0
fi
mkdir -p "$workspace"
cd "$workspace"  # and not the repository's root, whose folder mlflow/ has the package's name
exec "${command[@]}" "$@"
