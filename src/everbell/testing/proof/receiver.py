"""A target that is called by HTTP and writes down what it saw; a process of its own.

``python -m everbell.testing.proof.receiver --port 8100 --log FILE``; the path ``/0.3`` takes 0.3 s
to answer. It knows nothing of Everbell but the names of four headers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from functools import partial

from everbell.testing.proof.record import line, now_us


async def _serve(log: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    since_us = now_us()
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            fields = (text.partition(":") for text in head[1:] if text)
            headers = {name.lower(): value.strip() for name, _, value in fields}
            who = str(writer.get_extra_info("peername")[0])
            await reader.readexactly(int(headers.get("content-length", "0")))
            _write(log, "start", headers, who, since_us)
            await asyncio.sleep(float(head[0].split()[1].strip("/") or 0))
            _write(log, "end", headers, who, since_us)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def _write(log: int, kind: str, headers: dict[str, str], who: str, since_us: int) -> None:
    attempt, token = int(headers["everbell-attempt"]), int(headers["everbell-token"])
    times = now_us(), since_us
    said = line(kind, headers["webhook-id"], attempt, token, who=who, times=times)
    os.write(log, said.encode())


async def _main(host: str, port: int, path: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    server = await asyncio.start_server(partial(_serve, log), host, port, backlog=1000)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", required=True)
    given = parser.parse_args()
    asyncio.run(_main(given.host, given.port, given.log))
