"""One consumer alone, in ten lines: what it was told and did not end comes again."""

import json
import os

import redis

queue = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))
while True:
    for _, entries in queue.xread({"builds_docker": "0"}, count=10, block=5_000) or ():
        for entry, fields in entries:
            message = json.loads(fields[b"message"])
            print("built", message["job"]["name"], message["id"], flush=True)
            queue.xdel("builds_docker", entry)
