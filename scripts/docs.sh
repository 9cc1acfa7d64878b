#!/usr/bin/env bash
# Builds the documentation site into docs/_build/html. A broken link or an undocumented name is an error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/venv.sh
make_venv docs "the site" "about a minute"

"$python" -m sphinx -W --keep-going -q docs docs/_build/html
echo "Open docs/_build/html/index.html in a browser."
