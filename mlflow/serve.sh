#!/usr/bin/env bash
# Starts an MLflow tracking server for several users or machines; `painvrl ui` is enough for one.
# Settings come from server.env beside this file, or from the environment, which wins.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(dirname "$here")"

if [[ -f "$here/server.env" ]]; then
  while IFS='=' read -r name value; do
    [[ "$name" =~ ^[A-Z_]+$ ]] || continue  # blank lines and comments
    [[ -v "$name" ]] || export "$name=$value"
  done < "$here/server.env"
fi

workspace="${PAINVRL_WORKSPACE:-$root/workspace}"
# MLflow takes relative paths from the directory that it is started in: make them absolute.
[[ "$workspace" == /* ]] || workspace="$PWD/$workspace"

python="$root/.venv/bin/python"
[[ -x "$python" ]] || { echo "error: there is no .venv; run \`make install\` first" >&2; exit 2; }

export MLFLOW_DISABLE_TELEMETRY="${MLFLOW_DISABLE_TELEMETRY:-true}"
command=("$python" -m mlflow server
  --backend-store-uri "${BACKEND_STORE_URI:-sqlite:///$workspace/mlflow.db}"
  --artifacts-destination "${ARTIFACTS_DESTINATION:-$workspace/mlartifacts}"
  --host "${MLFLOW_HOST:-127.0.0.1}"
  --port "${MLFLOW_PORT:-5000}"
  --workers "${MLFLOW_WORKERS:-1}")

if [[ "${1:-}" == "--print" ]]; then
  printf '%q ' "${command[@]}"
  echo
  exit 0
fi
mkdir -p "$workspace"
cd "$workspace"  # and not the repository's root, whose folder mlflow/ has the package's name
exec "${command[@]}" "$@"
