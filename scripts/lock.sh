#!/bin/sh
# Writes requirements/dev.lock: the exact versions of the development environment.
set -eu
cd "$(dirname "$0")/.."
{
    echo "# Exact versions of the development environment. Written by scripts/lock.sh."
    .venv/bin/python -m pip freeze --exclude-editable --exclude everbell |
        grep -v -e ' @ ' -e '^-e' -e '://' |
        grep -v -x -F -f requirements/bench.lock
} >requirements/dev.lock.tmp
mv requirements/dev.lock.tmp requirements/dev.lock
