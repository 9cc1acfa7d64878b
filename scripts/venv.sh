# Sourced by quickstart.sh, test.sh and scripts/docs.sh: `make_venv EXTRAS PURPOSE TIME` makes .venv with the extras and
# leaves its Python in $python. PURPOSE and TIME are shown.
# An existing .venv is used again as long as neither setup.cfg nor pyproject.toml has changed, and gets extras added. For
# another Python (PYTHON=python3.13) or other constraints (PIP_CONSTRAINT=$PWD/scripts/oldest.txt) it is created
# again: otherwise the tests would pass on other versions.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

find_python() {
  for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "needs Python 3.11, 3.12 or 3.13 with venv: apt-get install python3 python3-venv, or set PYTHON=..." >&2
  return 1
}

# Whether .venv has the Python that PYTHON names, where it names one, and was made with these constraints of pip.
venv_is_of() {
  local base=$1 constraints=$2 version="import sys; print(sys.version_info[:2])"
  [ "$base" != "${PYTHON:-}" ] || [ "$("$python" -c "$version")" = "$("$base" -c "$version")" ] || return 1
  [ "$(cat "$here/.venv/.constraints" 2>/dev/null)" = "$constraints" ]
}

make_venv() {
  local extras=$1 purpose=$2 time=$3 base stamp wanted constraints=""
  base=$(find_python) || exit 1
  if [ -n "${PIP_CONSTRAINT:-}" ]; then
    # shellcheck disable=SC2086 # pip takes several files, with spaces between them
    constraints=$(cat $PIP_CONSTRAINT) || exit 1
  fi
  stamp="$here/.venv/.installed-$extras"
  wanted=$(cat "$here/setup.cfg" "$here/pyproject.toml" | sha256sum)
  python="$here/.venv/bin/python"
  if "$python" -c '' 2>/dev/null && ! venv_is_of "$base" "$constraints"; then
    echo "another Python or other constraints than .venv was made with: creating it again"
    rm -rf "$here/.venv"
  fi
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || ! "$python" -c '' 2>/dev/null; then
    if ! "$python" -m pip --version >/dev/null 2>&1; then
      echo "making .venv and installing what $purpose needs (once; $time)"
      "$base" -m venv --clear "$here/.venv" || {
        echo "python3 -m venv failed: apt-get install python3-venv" >&2
        exit 1
      }
      echo "$constraints" >"$here/.venv/.constraints"
    elif [ -e "$stamp" ]; then
      echo "setup.cfg or pyproject.toml has changed: bringing .venv up to date with what $purpose needs"
    else
      echo "adding to .venv what $purpose needs (once; $time)"
    fi
    "$python" -m pip install --quiet --disable-pip-version-check --editable "$here[$extras]" || exit 1
    echo "$wanted" >"$stamp"
  fi
}
