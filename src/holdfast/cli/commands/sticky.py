"""`holdfast sticky`: who owns which key of which sticky service; move a key, empty a pod."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from holdfast.cli.session import Session, shared
from holdfast.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Any

    from holdfast.job.commands import KeyLink, LinkFilter
    from holdfast.router import StatefulExecutor
    from holdfast.sticky.router import Router
    from holdfast.store import Store


@click.group("sticky")
def command() -> None:
    """Who owns which key of which sticky service; move a key, empty a pod."""


def _router_options(function: Callable[..., Any]) -> Callable[..., Any]:
    url = click.option(
        "--router", metavar="URL", envvar="HOLDFAST_ROUTER", help="The router: redis://host:6379/0, redis+cluster://…"
    )
    namespace = click.option(
        "--namespace", metavar="NAME", envvar="HOLDFAST_NAMESPACE", default="holdfast", show_default=True
    )
    return url(namespace(function))


@command.command("ls")
@click.argument("service", required=False)
@click.option("--limit", default=50, show_default=True, help="At most so many keys.")
@_router_options
@shared()
def ls(session: Session, service: str | None, limit: int, router: str | None, namespace: str) -> int:
    """List keys and their owners, as the store fences them; with --router also the pods of SERVICE."""
    return session.run(_ls(session, service, limit, router, namespace))


async def _ls(session: Session, service: str | None, limit: int, url: str | None, namespace: str) -> int:
    from holdfast.job.commands import LinkFilter

    async with session.store() as store:
        links = await _links(store, LinkFilter(service=service, limit=limit))
        workers = {one.id: one for one in await store.instances()}
    pods = []
    if url is not None and service is not None:
        async with _open(session, url, namespace) as router:
            pods = list((await router.pods(service)).values())
            await _warn_of_eviction(session, router.executor)
    if session.out.as_json:
        session.out.value({"links": [_doc(link) for link in links], "pods": pods})
        return 0
    rows = [
        (link.service, link.key, "-" if link.pod is None else link.pod, _state(workers, link), link.epoch)
        for link in links
    ]
    session.out.table(["service", "key", "pod", "owner", "epoch"], rows)
    if pods:
        shown = [(one.pod, one.state, one.routing, f"{one.load:.2f}", one.instance) for one in pods]
        session.out.table(["pod", "state", "routing", "load", "instance"], shown)
    return 0


async def _links(store: Store, which: LinkFilter) -> list[KeyLink]:
    if not store.capabilities.sticky:
        raise UsageError("expected a store that binds keys to pods, found one that does not: it has no sticky jobs.")
    return await store.links(which)


def _state(workers: dict[str, Any], link: KeyLink) -> str:
    if link.pod is None:
        return "given up"
    worker = workers.get(link.instance)
    return "gone" if worker is None else f"{worker.worker} {worker.state} (pid {worker.pid} on {worker.host})"


def _doc(link: KeyLink) -> dict[str, Any]:
    return {name: getattr(link, name) for name in link.__struct_fields__}


async def _warn_of_eviction(session: Session, executor: StatefulExecutor) -> None:
    policy = await eviction_fault(executor)
    if policy:
        session.out.note(f"warning: {policy}")


async def eviction_fault(executor: StatefulExecutor) -> str:
    """What is wrong with a Redis' way to evict; empty: nothing, or it is no Redis."""
    ask = getattr(executor, "eviction_policy", None)
    policy = "" if ask is None else str(await ask())
    if policy in ("", "noeviction"):
        return ""
    return (
        f"Redis: expected maxmemory-policy noeviction, found {policy}: links may be dropped when memory is short. "
        "Run CONFIG SET maxmemory-policy noeviction, and write it to its configuration."
    )


@command.command("owner")
@click.argument("service")
@click.argument("key")
@_router_options
@shared()
def owner(session: Session, service: str, key: str, router: str | None, namespace: str) -> int:
    """Show who owns KEY of SERVICE: as the router has it, with --router, and as the store fences it."""
    return session.run(_owner(session, service, key, router, namespace))


async def _owner(session: Session, service: str, key: str, url: str | None, namespace: str) -> int:
    from holdfast.job.commands import LinkFilter

    async with session.store() as store:
        fenced = await _links(store, LinkFilter(service=service, key=key))
    routed = None
    if url is not None:
        async with _open(session, url, namespace) as router:
            routed = await router.owner(service, key)
    if session.out.as_json:
        session.out.value({"store": _doc(fenced[0]) if fenced else None, "router": routed})
        return 0
    in_store = "nobody" if not fenced or fenced[0].pod is None else f"pod {fenced[0].pod}, epoch {fenced[0].epoch}"
    session.out.line(f"store:  {in_store}")
    if url is not None:
        left = "" if routed is None or routed.seconds_left is None else f", for {routed.seconds_left:.0f} s"
        session.out.line(f"router: {'nobody' if routed is None else f'pod {routed.pod}, epoch {routed.epoch}{left}'}")
    return 0


@command.command("move")
@click.argument("service")
@click.argument("key")
@click.argument("pod", type=int)
@_router_options
@shared()
def move(session: Session, service: str, key: str, pod: int, router: str | None, namespace: str) -> int:
    """Give KEY of SERVICE to POD. Waiting jobs go there; a running one ends where it is."""
    return session.run(_move(session, service, key, pod, router, namespace))


async def _move(session: Session, service: str, key: str, pod: int, url: str | None, namespace: str) -> int:
    from holdfast.sticky.steering import Steering

    async with session.store() as store, _open(session, url, namespace) as router:
        link = await Steering(router, store).move(service, key, pod)
        await session.note(store, "move_key", f"{service} {key}", detail=f"to pod {pod}")
    if session.out.as_json:
        session.out.value(link)
    else:
        session.out.line(f"{key} is with pod {link.pod}, under epoch {link.epoch}.")
    return 0


@command.command("drain")
@click.argument("service")
@click.argument("pod", type=int)
@_router_options
@shared()
def drain(session: Session, service: str, pod: int, router: str | None, namespace: str) -> int:
    """Give all keys of POD of SERVICE to the other pods."""
    return session.run(_drain(session, service, pod, router, namespace))


async def _drain(session: Session, service: str, pod: int, url: str | None, namespace: str) -> int:
    from holdfast.sticky.steering import Steering

    async with session.store() as store, _open(session, url, namespace) as router:
        count = await Steering(router, store).drain(service, pod)
        await session.note(store, "drain_pod", f"{service} {pod}", count)
    if session.out.as_json:
        session.out.value({"moved": count})
    else:
        session.out.line(f"{count} keys have moved from pod {pod}.")
    return 0


@asynccontextmanager
async def _open(session: Session, url: str | None, namespace: str) -> AsyncIterator[Router]:
    from holdfast.connect import make_router
    from holdfast.sticky.router import Router, RouterOptions

    if url is None:
        raise ConfigError(
            "--router: expected the URL that the workers use, found none. Write --router redis://host:6379/0."
        )
    executor = make_router(url, clock=session.clock)
    await executor.open()
    try:
        yield Router(executor, RouterOptions(namespace=namespace), clock=session.clock)
    finally:
        await executor.close()
