#!/usr/bin/env bash
# Installs what the tests need into .venv and runs every check. --quick leaves the slow tests out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/venv.sh
make_venv test "the test suite" "PyTorch is among it; some minutes"

selection=()
if [ "${1:-}" = "--quick" ]; then
  selection=(-m "not slow")
  shift
fi

echo "== ruff"
"$python" -m ruff check .
"$python" -m ruff format --check .
echo "== types"
"$python" -m mypy
echo "== tests"
# A file stays in one process, so what its tests share is made once. Later arguments win: -n 0 for a debugger.
workers=(-n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder)
exec "$python" -m pytest "${workers[@]}" "${selection[@]}" "$@"
