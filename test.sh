#!/usr/bin/env bash
# Installs what the tests need into .venv and runs every check.
#
#   --quick    leaves the slow tests out
#   --parity   installs PyTorch and transformers too, and compares with them
#
# Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/venv.sh

selection=()
extras=test
while true; do
  case "${1:-}" in
    --quick) selection=(-m "not slow") ;;
    --parity) extras=test,parity ;;
    *) break ;;
  esac
  shift
done
make_venv "$extras" "the test suite" "some minutes"

echo "== ruff"
"$python" -m ruff check .
"$python" -m ruff format --check .
# The types are checked beside the tests: near the end of these one core is idle.
types=$(mktemp)
"$python" -m mypy >"$types" 2>&1 &
checker=$!
echo "== tests"
# A file stays in one process, so what its tests share is made once. Later arguments win: -n 0 for a debugger.
workers=(-n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder)
status=0
"$python" -m pytest "${workers[@]}" "${selection[@]}" "$@" || status=$?
echo "== types"
wait "$checker" || status=$?
cat "$types"
rm -f "$types"
exit "$status"
