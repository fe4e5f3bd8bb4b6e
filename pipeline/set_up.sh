#!/usr/bin/env bash
# Makes .venv with CPython 3.10 and the locked packages. Called by `make setup` with the version of uv.
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }

# uv, in a folder of its own, from any Python 3.
if [[ ! -x .uv/bin/uv ]]; then
  say "Installing uv …"
  python3 -m venv .uv && .uv/bin/python -m pip install --quiet "uv==$1" || {
    say "setup: Python 3 with its venv module is needed to install uv; install the packages python3 and python3-venv."
    exit 1
  }
fi

# CPython 3.10: on PATH, in pyenv, or one that uv installs.
find_python() {
  local candidate
  for candidate in "$(command -v python3.10 || true)" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.10.*/bin/python; do
    if [[ -x $candidate ]] && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return
    fi
  done
  echo 3.10
}
python=$(find_python)
rm -rf .venv
.uv/bin/uv venv --quiet --python "$python" .venv || {
  say "setup: CPython 3.10 was not found and could not be downloaded; install python3.10 (pyenv install 3.10, say)."
  exit 1
}

say "Installing the locked packages into .venv …"
.uv/bin/uv pip sync --quiet --require-hashes --compile-bytecode --python .venv/bin/python requirements.lock
.uv/bin/uv pip install --quiet --no-deps --no-build-isolation --python .venv/bin/python --editable .
say "Done: .venv/bin/homefeed --help"
