#!/bin/sh
# `make run`: a node in ./.everbell-run on 127.0.0.1:9091 (or EVERBELL_SERVER_PORT) with one
# job every 10 seconds.
# Run it again: data and credentials stay. Remove the directory to begin anew.
set -eu
cd "$(dirname "$0")/.."
bin="$PWD/.venv/bin"
dir="${EVERBELL_RUN_DIR:-$PWD/.everbell-run}"
unset EVERBELL_RUN_DIR # ours, and no setting: the node would refuse it
export PATH="$bin:$PATH"

[ -e "$dir" ] || everbell init "$dir"
cd "$dir"
if [ ! -e .first-job ]; then
    # The store is the meeting point, so a job can be created before the node starts.
    # It may be there without the mark, if this was broken off in between.
    everbell job get hello >/dev/null 2>&1 ||
        everbell job create hello --every 10s -- /bin/echo "hello from everbell"
    : >.first-job
fi
exec everbell start
