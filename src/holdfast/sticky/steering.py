"""What people do to keys: move one, let one go, empty a pod. Each step goes to the router first, then to the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.errors import Conflict, NoPod, RouterDataError, UnknownPod
from holdfast.job.commands import KeyLink, LinkFilter
from holdfast.router import PERMANENT, Link, Owner, Want, check_names, check_pod
from holdfast.sticky.choice import Choice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.router import PodState
    from holdfast.sticky.router import Router
    from holdfast.store import Store

_PAGE: Final = 500


class Steering:
    """Changes who owns which key."""

    def __init__(self, router: Router, store: Store) -> None:
        self._router, self._store = router, store

    async def release(self, service: str, key: str) -> bool:
        """Let a key go: its next job goes to the best pod then. False: nobody had it. A running job is not disturbed."""
        check_names("-", service, key, "key")
        answer = await self._router.release(service, key, None, PERMANENT)
        if answer.ok:
            # Refused when the store knows a newer link: then the key was not this one's to let go.
            await self._store.bind([KeyLink(service, key, None, answer.instance, answer.epoch)])
            return True
        # A router that has lost its data knows of no link; the store still does.
        known = await self._store.links(LinkFilter(service=service, key=key))
        given = [KeyLink(service, key, None, link.instance, link.epoch) for link in known if link.pod is not None]
        return bool(given) and all(bound.accepted for bound in await self._store.bind(given))

    async def move(self, service: str, key: str, pod: int) -> Link:
        """Give a key to a pod. Its waiting jobs go there; a running one ends where it is. Raises NoPod, Conflict."""
        check_names("-", service, key, "key")
        check_pod(pod)
        why = ""
        for _ in range(2):
            moved = await self._router.move(service, key, pod)
            [bound] = await self._store.bind([KeyLink(service, key, pod, moved.instance, moved.epoch)])
            if bound.accepted:
                return Link(pod, moved.epoch, moved.instance, self._router.options.link)
            why = bound.why
            self._router.forget(service, key, floor=bound.link.epoch)
        raise Conflict(f"service {service!r}: key {key!r} can not move to pod {pod}: {why}. Try again.")

    async def drain(self, service: str, pod: int) -> int:
        """Give all keys of a pod to the others; return how many moved. It may get new ones: stop its worker to keep it empty.

        Raises NoPod when there is no other, UnknownPod for one that is not there and has no keys.
        """
        check_names("-", service)
        check_pod(pod)
        pods = await self._router.pods(service)
        if pod not in pods and not await self._router.keys(service, pod, 1):
            raise UnknownPod(service, pod, list(pods))
        others = {number: state for number, state in pods.items() if number != pod}
        choice, moved = Choice(), 0
        while keys := await self._router.keys(service, pod, _PAGE):
            count = await self._drain_page(service, pod, keys, others, choice)
            moved += count
            if not count:
                break  # others moved them meanwhile, or will
        return moved

    async def _drain_page(
        self, service: str, pod: int, keys: list[str], others: Mapping[int, PodState], choice: Choice
    ) -> int:
        router = self._router
        stored = await router.executor.links(router.options.namespace, keys, service)
        wanted: dict[str, Want] = {}
        for key, link in stored.items():
            if isinstance(link, RouterDataError):
                raise link
            best = choice.best(others)
            if best is None:
                raise NoPod(service, f"pod {pod} is the only one that takes keys")
            if link.pod == pod:
                wanted[key] = Want(Owner(best.pod, best.instance), link.epoch, link.epoch)
        answers = await router.link_many(service, wanted)
        links = []
        for key, answer in answers.items():
            router.forget(service, key)
            if not isinstance(answer, RouterDataError) and answer.ok:
                links.append(KeyLink(service, key, answer.current, answer.instance, answer.epoch))
        await self._store.bind(links)
        return len(links)
