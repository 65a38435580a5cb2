"""What the sample apps keep in Redis, and the traffic that fills and drains the queue. All people in it are made up."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.typing import EncodableT, FieldT

QUEUE = "payments:queue:capture"
DEAD = "payments:queue:dead"
PILED_UP = 1_842
_DAY = 86_400


class Traffic:
    """Jobs come in all the time; while `running`, a worker takes more of them than come."""

    def __init__(self, redis: Redis, *, seconds: float = 1.0, coming: int = 2, taken: int = 60) -> None:
        self._redis = redis
        self._seconds = seconds
        self._coming = coming
        self._taken = taken
        self._number = PILED_UP
        self.running = False

    async def run(self) -> None:
        """Until it is cancelled. A Redis that is away is not this one's business."""
        while True:
            with suppress(RedisError, OSError):
                await self.move()
            await asyncio.sleep(self._seconds)

    async def move(self) -> None:
        """One round of it."""
        jobs = [_describe_job(self._number + at) for at in range(self._coming)]
        self._number += len(jobs)
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.lpush(QUEUE, *jobs)
            if self.running:
                pipeline.rpop(QUEUE, self._taken)
                pipeline.hincrby("payments:stats:capture", "done", self._taken)
            await pipeline.execute()


async def fill(redis: Redis) -> None:
    """Puts the sample data into an empty Redis."""
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.lpush(QUEUE, *[_describe_job(number) for number in range(PILED_UP)])
        pipeline.lpush(DEAD, *[_describe_job(number, attempts=5) for number in range(37)])
        pipeline.zadd("payments:queue:delayed", {f"job-{number}": 1_800_000_000 + number * 60 for number in range(12)})
        pipeline.hset(
            "payments:stats:capture",
            mapping={"done": 918_204, "failed": 37, "last_error": "no worker took it in 900 s"},
        )
        pipeline.hset(
            "payments:settings:ledger",
            mapping={
                "dsn": "postgres://ledger:made-up-for-the-demo@ledger.example.com/ledger",
                "api_key": "made-up-for-the-demo",
                "timeout_ms": "1500",
                "owner": "team payments",
            },
        )
        for customer in ("acme", "globex", "initech"):
            pipeline.hset(
                f"payments:limits:{customer}", mapping={"daily": "100000", "used": str(len(customer) * 1_733)}
            )
        for number in range(24):
            pipeline.set(f"payments:idempotency:{number:06d}", "captured", ex=_DAY - number * 600)
        for number in range(18):
            cart: dict[FieldT, EncodableT] = {
                "items": str(number % 5 + 1),
                "customer": f"Sample Person {number}",
                "currency": "EUR",
            }
            pipeline.hset(f"shop:cart:{1000 + number}", mapping=cart)
            pipeline.expire(f"shop:cart:{1000 + number}", 3_600 + number * 60)
        pipeline.sadd("shop:flags:enabled", "new-checkout", "express-shipping", "gift-cards")
        pipeline.set("shop:flags:visits", 48_213, ex=_DAY)
        for number in range(120):
            pipeline.xadd("data:events:orders", {"order": f"o-{number}", "amount_minor": str(900 + number * 7)})
        pipeline.xgroup_create("data:events:orders", "data-ingest", id="0")
        for place, jobs in (("staging", 3), ("dev", 1)):
            pipeline.lpush(f"{place}:{QUEUE}", *[_describe_job(number) for number in range(jobs)])
            pipeline.hset(f"{place}:payments:stats:capture", mapping={"done": 1_204, "failed": 0})
        await pipeline.execute()


def _describe_job(number: int, *, attempts: int = 0) -> str:
    return json.dumps(
        {
            "job": f"capture-{number:06d}",
            "amount_minor": 500 + number * 37 % 25_000,
            "currency": "EUR",
            "customer": {"name": f"Sample Person {number % 400}", "email": f"person{number % 400}@example.com"},
            "access_token": f"made-up-{number:06d}",
            "attempts": attempts,
        }
    )
