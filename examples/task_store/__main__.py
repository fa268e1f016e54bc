"""`python -m examples.task_store [sqlite:///FILE]`: the five steps, one after another."""

import asyncio
import sys
import tempfile
from pathlib import Path

from examples.task_store.shop import Shop, define, place_order, process, set_up


async def main(path: str) -> Shop:
    shop = await set_up(path)
    try:
        print(f"1. set up      {shop.app}")
        await define(shop)
        print("2. define     ", ", ".join(task.alias for task in await shop.app.definitions.list()))
        print("3. register   ", ", ".join(sorted(shop.app.tasks.aliases())))
        orders = [
            await place_order(shop, customer, 9.5 * place) for place, customer in enumerate(("ann", "bob", "cy"), 1)
        ]
        print(f"4. enqueue     {len(orders)} orders, {await shop.app.jobs.count()} jobs wait")
        print(f"5. process     {await process(shop)} jobs done, mail to {', '.join(sorted(shop.sent))}")
    finally:
        await shop.app.close()
    return shop


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(sys.argv[1].removeprefix("sqlite:///")))
    else:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(main(str(Path(folder) / "shop.db")))
