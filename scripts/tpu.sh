#!/usr/bin/env bash
# Cloud TPU: creates a slice, installs the package on every worker, starts the same command on all of them.
#
#   scripts/tpu.sh create [--spot]          make the slice $TPU_NAME of $TPU_TYPE in $TPU_ZONE
#   scripts/tpu.sh install                  copy this checkout to every worker and install it there
#   scripts/tpu.sh copy FILE [FILE ...]     copy files into the checkout on every worker
#   scripts/tpu.sh train FLAGS...           alignment-jax train FLAGS... --distributed, on every worker
#   scripts/tpu.sh keep [--copy FILE ...] FLAGS...
#                                           train; when the slice is preempted, create it again and resume; every
#                                           --copy FILE is copied at the start, and again to each new slice
#   scripts/tpu.sh status | delete
#
# TPU_NAME, TPU_ZONE and TPU_TYPE must be set; TPU_VERSION (the image) and TPU_DRY_RUN=1 (only print) may be.
set -euo pipefail
given_from=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scratch=
trap '[ -z "$scratch" ] || rm -rf "$scratch"' EXIT

usage() {
  sed -n '2,14s/^# \{0,1\}//p' scripts/tpu.sh >&2
  exit 2
}

need() {
  for name in "$@"; do
    if [ -z "${!name:-}" ]; then
      echo "scripts/tpu.sh: set $name, as in: export TPU_NAME=align TPU_ZONE=us-west4-a TPU_TYPE=v5litepod-8" >&2
      exit 2
    fi
  done
}

run() {
  echo "+ $(printf '%q ' "$@")" >&2
  [ -n "${TPU_DRY_RUN:-}" ] || "$@"
}

tpu() { run gcloud compute tpus tpu-vm "$@" --zone="$TPU_ZONE"; }

on_all_workers() { tpu ssh "$TPU_NAME" --worker=all --command="$1"; }

image() {
  case "$TPU_TYPE" in
    v6e-*) echo v2-alpha-tpuv6e ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    *) echo tpu-ubuntu2204-base ;;
  esac
}

create() {
  tpu create "$TPU_NAME" --accelerator-type="$TPU_TYPE" --version="${TPU_VERSION:-$(image)}" "$@"
}

install() {
  local archive edits
  [ -n "$scratch" ] || scratch=$(mktemp -d)
  archive=$scratch/alignment_jax.tar.gz
  edits=$(git status --porcelain | wc -l)
  [ "$edits" -eq 0 ] || echo "warning: $((edits)) files have edits that are not committed; install sends HEAD, without them" >&2
  run git archive --format=tar.gz --output="$archive" HEAD
  tpu scp "$archive" "$TPU_NAME:" --worker=all
  # uv installs Python if the image's is too old.
  on_all_workers "mkdir -p alignment_jax && tar xzf alignment_jax.tar.gz -C alignment_jax && cd alignment_jax \
&& python3 -m pip install --quiet --user uv && python3 -m uv venv --quiet --allow-existing --python 3.12 .venv \
&& python3 -m uv pip install --quiet --python .venv/bin/python -e '.[train,tpu]' gcsfs"
}

# A file as the user wrote it, from the folder in which the script was called.
resolved() {
  local path=$1
  case "$path" in /*) ;; *) path=$given_from/$path ;; esac
  if [ ! -e "$path" ]; then
    echo "scripts/tpu.sh: $path: no such file" >&2
    return 2
  fi
  echo "$path"
}

copy() { for file in "$@"; do tpu scp "$file" "$TPU_NAME:alignment_jax/" --worker=all; done; }

train() {
  local flags
  flags=$(printf '%q ' "$@")
  on_all_workers "cd alignment_jax && .venv/bin/alignment-jax train $flags--distributed"
}

# The state of the slice, ABSENT where there is none. Whatever else gcloud fails with (login, network) is an error.
state() {
  local errors found
  errors=$(mktemp)
  if found=$(gcloud compute tpus tpu-vm describe "$TPU_NAME" --zone="$TPU_ZONE" --format='value(state)' 2>"$errors"); then
    rm -f "$errors"
    echo "$found"
    return
  fi
  if grep -qE 'NOT_FOUND|Resource .* was not found' "$errors"; then
    rm -f "$errors"
    echo ABSENT
    return
  fi
  echo "scripts/tpu.sh: the state of $TPU_NAME is not known, because gcloud failed:" >&2
  cat "$errors" >&2
  rm -f "$errors"
  return 1
}

keep() {
  local files=() file
  while [ "${1:-}" = --copy ]; do
    [ $# -ge 2 ] || usage
    file=$(resolved "$2") || return
    files+=("$file")
    shift 2
  done
  copy ${files[@]+"${files[@]}"}
  # 143: stopped by SIGTERM and saved. Anything else on a slice that is still there is the run's own end.
  while true; do
    local status=0 found
    train "$@" || status=$?
    [ "$status" -ne 0 ] || return 0
    found=$(state) || return
    case "$found" in
      PREEMPTED | TERMINATED | STOPPED | ABSENT)
        echo "slice $TPU_NAME is $found; creating it again" >&2
        [ "$found" = ABSENT ] || tpu delete "$TPU_NAME" --quiet
        until create --spot; do
          sleep "${TPU_RETRY_SECONDS:-60}"
          state >/dev/null || return
        done
        install
        copy ${files[@]+"${files[@]}"}
        ;;
      *) [ "$status" -eq 143 ] || return "$status" ;;
    esac
  done
}

command=${1:-}
[ $# -eq 0 ] || shift
case "$command" in
  create | install | train | keep | status | delete | copy) need TPU_NAME TPU_ZONE TPU_TYPE ;;
  *) usage ;;
esac
case "$command" in
  create) create "$@" ;;
  install) install ;;
  copy)
    files=()
    for file in "$@"; do
      file=$(resolved "$file") || exit
      files+=("$file")
    done
    copy ${files[@]+"${files[@]}"}
    ;;
  train) train "$@" ;;
  keep) keep "$@" ;;
  status) state ;;
  delete) tpu delete "$TPU_NAME" --quiet ;;
esac
