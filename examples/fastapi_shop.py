"""FastAPI with a node inside: ``uvicorn --workers 4 fastapi_shop:web``."""

from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from shop import app as jobs
from shop import restock

web = FastAPI(lifespan=jobs.lifespan)
web.mount("/everbell", jobs.asgi)  # the HTTP API, with its own credentials


@web.post("/restock/{item}")
async def order(item: str, count: int = 1) -> dict[str, Any]:
    """Ask for a run; any of the workers may take it."""
    run = await restock.run_now(item=item, count=count)
    return {"run": run.id, "result": await run.result(timeout=10)}


@asynccontextmanager
async def lifespan(_: FastAPI):
    """Where the program has a lifespan of its own: one inside of the other."""
    async with jobs.running():
        yield
