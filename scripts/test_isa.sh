#!/usr/bin/env bash
# Runs ./test.sh with the instructions of three kinds of processors: SSE4.2, AVX2, and all that this one has.
#
#   scripts/test_isa.sh                       everything, three times
#   scripts/test_isa.sh tests/similarity      arguments go to ./test.sh
#   ISAS="SSE4_2" scripts/test_isa.sh         one of them
#
# XLA then rounds as it does on such a processor, so a tolerance that holds on one machine only is found here. Compiled
# programs are kept for each apart.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cache="${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/alignment_jax/jax_compilation_cache}"
flags="${XLA_FLAGS:-}"
failed=()
for isa in ${ISAS:-SSE4_2 AVX2 all}; do
  echo "== instructions: $isa"
  if [ "$isa" = all ]; then
    XLA_FLAGS="$flags" JAX_COMPILATION_CACHE_DIR="$cache" ./test.sh "$@" || failed+=("$isa")
  else
    XLA_FLAGS="$flags --xla_cpu_max_isa=$isa" JAX_COMPILATION_CACHE_DIR="${cache}_$isa" ./test.sh "$@" || failed+=("$isa")
  fi
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed with: ${failed[*]}" >&2
  exit 1
fi
