#!/bin/sh
# Installs what the tests need besides Python: node and three packages for the JavaScript program
# of the Scheduler0 page, PostgreSQL, Redis and openssl. Does nothing where they are there already.
set -eu
cd "$(dirname "$0")/.."
client=tests/e2e/seed_client

has() { # command: PostgreSQL's programs are not on the PATH of Debian
    command -v "$1" >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/"$1" >/dev/null 2>&1
}

need() { # command package: some nodejs packages bring npm along and conflict with Debian's
    has "$1" && return
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing $2 (the tests run real programs)"
        [ -n "${updated:-}" ] || apt-get update -qq
        updated=yes
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null
    else
        echo "error: the tests need $1, which is not on the PATH" >&2
        echo "hint: install it (Debian, Ubuntu: sudo apt-get install $2), then again" >&2
        exit 2
    fi
}
need node nodejs
need npm npm
need initdb postgresql
need redis-server redis-server
need openssl openssl
need systemd-analyze systemd
need start-stop-daemon dpkg

stamp="$client/node_modules/.everbell-lock"
if ! cmp -s "$client/package-lock.json" "$stamp"; then
    (cd "$client" && npm ci --loglevel=error >/dev/null)
    cp "$client/package-lock.json" "$stamp"
fi
