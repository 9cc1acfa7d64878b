#!/usr/bin/env bash
# Installs into .venv and trains the quickstart: images and captions that the package draws itself, nothing is
# downloaded but Python packages. Ends with retrieval numbers and a report to open in a browser.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/venv.sh
make_venv train training "about a minute"

workdir=${1:-runs/quickstart}
.venv/bin/alignment-jax train --config configs/quickstart.py --workdir "$workdir"
.venv/bin/alignment-jax embed --workdir "$workdir" --out "$workdir/embeddings.npz"
echo
echo "Open $workdir/report.html in a browser. README.md continues with your own data."
