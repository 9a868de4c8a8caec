"""Does what `queue` jobs of the driver `docker` ask for, once per run even if told twice."""

import json
import os
import socket

import redis

KEY, GROUP, ME = "builds_docker", "builders", f"{socket.gethostname()}-{os.getpid()}"
url = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
queue = redis.Redis.from_url(url, decode_responses=True, socket_timeout=None)


def build(message):
    print("built", message["job"]["name"], message["id"], flush=True)


def entries():
    """Yield entries: first what a consumer that died has left, then new ones."""
    if not queue.exists(KEY) or GROUP not in [one["name"] for one in queue.xinfo_groups(KEY)]:
        queue.xgroup_create(KEY, GROUP, "0", mkstream=True)
    yield from queue.xautoclaim(KEY, GROUP, ME, min_idle_time=60_000)[1]
    for _, new in queue.xreadgroup(GROUP, ME, {KEY: ">"}, count=10, block=5_000) or ():
        yield from new


while True:
    for entry, fields in entries():
        message = json.loads(fields["message"])
        if not queue.exists(f"done:{message['id']}"):
            build(message)
        with queue.pipeline(transaction=True) as end:
            end.set(f"done:{message['id']}", 1, ex=86_400)
            end.xack(KEY, GROUP, entry).xdel(KEY, entry).execute()
