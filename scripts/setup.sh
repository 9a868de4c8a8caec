#!/bin/sh
# Creates the environment: needs Python 3.11 or newer with venv and pip, nothing else.
set -eu
PYTHON="${PYTHON:-python3}"
VENV="${VENV:-.venv}"

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "error: $PYTHON is older than Python 3.11 or does not run" >&2
    echo "hint: make setup PYTHON=python3.11" >&2
    exit 2
}
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV" || {
    echo "error: $PYTHON cannot create a virtual environment" >&2
    echo "hint: on Debian and Ubuntu: apt-get install python3-venv" >&2
    exit 2
}
# The build backend is in the lock too, so the second step fetches nothing.
"$VENV/bin/python" -m pip install --quiet -r requirements/dev.lock
"$VENV/bin/python" -m pip install --quiet --no-deps --no-build-isolation -e .
