"""A shop's jobs. Run them with ``everbell start --app shop:app``, or ``python shop.py``."""

import logging

from everbell import Context, Everbell, Skip, cron, every, on

log = logging.getLogger("shop")
app = Everbell(timezone="Europe/Stockholm")
basket: list[str] = []


@app.job(every(10).minutes)
async def watch_stock() -> int:
    """Count what is in stock."""
    print("counting")
    return 42


@app.job(cron("*/5 * * * *"), retry={"max": 3, "delay": 10, "multiplier": 2}, timeout=60)
def send_orders(it: Context) -> dict[str, int]:
    """Send what was ordered; the token lets the warehouse refuse a straggler."""
    if not basket:
        raise Skip("nothing was ordered")
    log.warning("sending %d orders, token %d", len(basket), it.token)
    sent, basket[:] = len(basket), []
    return {"sent": sent}


@app.job(on.monday.at("10:00PM"), mode="subprocess", misfire="latest", overlap="skip")
def weekly_report(week: int = 0) -> str:
    """Write the report in a process of its own, which a timeout can kill."""
    return f"report of week {week}"


@app.job
def restock(item: str, count: int = 1) -> str:
    """Run only when asked to: ``await restock.run_now(item="bell", count=3)``."""
    return f"{count} x {item}"


if __name__ == "__main__":
    app.run()
