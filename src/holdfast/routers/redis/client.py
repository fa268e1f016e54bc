"""The connection: one pool, errors made ours, scripts called by SHA and loaded again when the server forgot them."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from redis import exceptions as e
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from holdfast.errors import ConfigError, RouterDataError, RouterError, RouterUnavailable
from holdfast.routers.redis.scripts import NAMES, Script, script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_CLUSTER: Final = "redis+cluster://"
#: Errors of the server that pass by themselves, by what the text begins with.
_PASSING: Final = (
    "LOADING",
    "READONLY",
    "OOM",
    "BUSY",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MASTERDOWN",
    "NOREPLICAS",
    "MISCONF",
)
_FOREIGN: Final = ("HOLDFASTDATA", "WRONGTYPE")
#: How many commands one pipeline carries.
_PIPELINE: Final = 1_000

Command = tuple[Any, ...]


class Client:
    """Redis, or a Redis Cluster, behind a few calls. `scripts` replaces texts of scripts, for tests."""

    def __init__(
        self,
        url: str,
        *,
        shown: str,
        connections: int = 50,
        timeout: float = 5.0,
        scripts: Callable[[str], Script] = script,
    ) -> None:
        self._url, self._shown, self._connections, self._timeout, self._scripts = (
            url,
            shown,
            connections,
            timeout,
            scripts,
        )
        self._redis: Any = None
        # A cluster's pools fail as soon as their connections are taken; so no more calls than that are let in.
        self._room = asyncio.Semaphore(connections if self.is_cluster else 1_000_000)

    @property
    def is_cluster(self) -> bool:
        """Whether the URL says that it is a cluster."""
        return self._url.startswith(_CLUSTER)

    async def open(self) -> None:
        """Connect and load the scripts. Raises ConfigError for a bad URL or password, RouterUnavailable if nobody answers."""
        if self._redis is not None:
            return
        self._redis = self._connect()
        try:
            with self._errors():
                await self._redis.ping()
                await self._load(NAMES)
        except BaseException:
            await self.close()
            raise

    def _connect(self) -> Any:
        common: dict[str, Any] = {
            "socket_timeout": self._timeout,
            "socket_connect_timeout": self._timeout,
            "decode_responses": True,
            "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), 2),
        }
        try:
            if self.is_cluster:
                address = "redis://" + self._url.removeprefix(_CLUSTER)
                return RedisCluster.from_url(address, max_connections=self._connections, **common)
            # The plain pool fails as soon as its connections are taken; this one waits.
            pool = BlockingConnectionPool.from_url(
                self._url, max_connections=self._connections, timeout=self._timeout, **common
            )
            return Redis(connection_pool=pool)
        except (ValueError, e.RedisError) as error:
            raise ConfigError(
                f"router URL: expected redis://host:6379/0, rediss://…, unix://path or redis+cluster://host:6379, "
                f"found {self._shown} ({error})."
            ) from error

    async def close(self) -> None:
        """Close all connections."""
        redis, self._redis = self._redis, None
        if redis is not None:
            await redis.aclose()
            pool = getattr(redis, "connection_pool", None)
            if pool is not None:
                await pool.disconnect()

    # --- calls

    async def run(self, name: str, *arguments: Any) -> Any:
        """Call a script; the first of the arguments are its keys."""
        wanted = self._scripts(name)
        if not self.is_cluster:
            return await self._run(wanted, name, arguments)
        async with self._room:
            return await self._run(wanted, name, arguments)

    async def _run(self, wanted: Script, name: str, arguments: tuple[Any, ...]) -> Any:
        with self._errors(arguments[: wanted.keys]):
            redis = self._opened()
            try:
                return await redis.execute_command("EVALSHA", wanted.sha, wanted.keys, *arguments)
            except e.NoScriptError:
                await self._load((name,))
                return await redis.execute_command("EVALSHA", wanted.sha, wanted.keys, *arguments)

    async def call(self, *command: Any) -> Any:
        """Call a plain command."""
        async with self._room:
            with self._errors(command[1:2]):
                return await self._opened().execute_command(*command)

    def scripted(self, name: str, *arguments: Any) -> Command:
        """Return the command that calls a script, for `pipe`."""
        wanted = self._scripts(name)
        return ("EVALSHA", wanted.sha, wanted.keys, *arguments)

    async def pipe(self, commands: Sequence[Command], *, apart: bool = False) -> list[Any]:
        """Call many commands in few round trips; on a cluster each goes to its node. The first error is raised.

        apart: a value that is not ours is no error of the others; its RouterDataError stands in the place of the answer.
        """
        async with self._room:
            answers = await self._pipe_all(commands)
        for place, answer in enumerate(answers):
            if not isinstance(answer, Exception):
                continue
            where = _keys(commands[place])
            if not (apart and isinstance(answer, e.ResponseError) and _is_foreign(answer)):
                with self._errors(where):
                    raise answer
            answers[place] = self._told(answer, where)
        return answers

    async def _pipe_all(self, commands: Sequence[Command]) -> list[Any]:
        answers: list[Any] = []
        with self._errors():
            for start in range(0, len(commands), _PIPELINE):
                answers += await self._pipe(commands[start : start + _PIPELINE])
            again = [place for place, answer in enumerate(answers) if isinstance(answer, e.NoScriptError)]
            if again:
                # A script that the server does not have has done nothing, so it can be called again.
                await self._load(NAMES)
                repeated = await self._pipe([commands[place] for place in again])
                for place, answer in zip(again, repeated, strict=True):
                    answers[place] = answer
        return answers

    async def _pipe(self, commands: Sequence[Command]) -> list[Any]:
        if len(commands) == 1:
            try:
                return [await self._opened().execute_command(*commands[0])]
            except e.ResponseError as error:
                return [error]
        redis = self._opened()
        pipeline = redis.pipeline() if self.is_cluster else redis.pipeline(transaction=False)
        async with pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def _load(self, names: Sequence[str]) -> None:
        redis = self._opened()
        for name in names:
            await redis.script_load(self._scripts(name).text)

    def _opened(self) -> Any:
        if self._redis is None:
            raise RouterError("the router is not open: await router.open() first, and do not use it after close().")
        return self._redis

    # --- errors

    @contextmanager
    def _errors(self, where: Sequence[Any] = ()) -> Iterator[None]:
        """Make errors ours. where: the keys that were touched."""
        try:
            yield
        except e.NoPermissionError as error:
            raise self._forbidden(error) from error
        except (e.ConnectionError, e.TimeoutError, e.RedisClusterException, OSError, TimeoutError) as error:
            # A login that failed comes as a connection that failed; waiting would not mend it.
            forbidden = isinstance(error, e.AuthenticationError) or isinstance(error.__cause__, e.AuthenticationError)
            raise (self._forbidden(error) if forbidden else self._unavailable(error)) from error
        except e.ResponseError as error:
            raise self._told(error, where) from error

    def _forbidden(self, error: BaseException) -> ConfigError:
        return ConfigError(
            f"router {self._shown}: expected a user that may call what docs/sticky.md lists, found: {error}"
        )

    def _unavailable(self, error: BaseException) -> RouterUnavailable:
        return RouterUnavailable(
            f"router {self._shown}: expected an answer, found {type(error).__name__}: {error}. "
            "Start Redis, or correct the URL."
        )

    def _told(self, error: e.ResponseError, where: Sequence[Any] = ()) -> Exception:
        text = str(error)
        if _is_foreign(error):
            named = [key for key in where if f"HOLDFASTDATA {key}" in text] or list(where)
            return RouterDataError(
                f"router {self._shown}: expected a value written by Holdfast at {' or '.join(map(str, named))}, found "
                f"another ({text:.200}). Delete it, or give Holdfast a database or a namespace of its own."
            )
        if isinstance(error, e.OutOfMemoryError | e.ReadOnlyError) or any(word in text for word in _PASSING):
            return self._unavailable(error)
        return RouterError(f"router {self._shown}: {text}")


def _is_foreign(error: e.ResponseError) -> bool:
    return any(word in str(error) for word in _FOREIGN)


def _keys(command: Command) -> Command:
    """The keys that a command touches: a script's, or the one of a plain command."""
    return command[3 : 3 + command[2]] if command[0] == "EVALSHA" else command[1:2]
