#!/bin/sh
# Installs what the tests need besides Python: node and three packages for the JavaScript program
# of the Scheduler0 page. Does nothing where they are there already.
set -eu
cd "$(dirname "$0")/.."
client=tests/e2e/seed_client

if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing nodejs and npm (the JavaScript seed program is one of the tests)"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null
    else
        echo "error: the tests need node and npm, which are not on the PATH" >&2
        echo "hint: install them (Debian, Ubuntu: sudo apt-get install nodejs npm), then again" >&2
        exit 2
    fi
fi

stamp="$client/node_modules/.everbell-lock"
if ! cmp -s "$client/package-lock.json" "$stamp"; then
    (cd "$client" && npm ci --loglevel=error >/dev/null)
    cp "$client/package-lock.json" "$stamp"
fi
