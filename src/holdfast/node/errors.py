"""What keeps a node from starting, beside what its store and its settings say."""

from __future__ import annotations

from holdfast.errors import ConfigError


class PortInUse(ConfigError):
    """Another program listens there."""

    def __init__(self, host: str, port: int, setting: str) -> None:
        self.host, self.port = host, port
        super().__init__(
            f"port {port} of {host}: expected a free port, found one in use. "
            f"Stop the program that listens there, or choose another with {setting} (0 picks a free one)."
        )


class CannotListen(ConfigError):
    """The system refused an address."""


class UnsafeBind(ConfigError):
    """An address that other machines reach, without credentials."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"host {host!r}: expected a loopback address (127.0.0.1, ::1, localhost), found one that others may reach. "
            "To serve it, make a token (holdfast tokens make NAME SCOPE), or set api_token (HOLDFAST_API_TOKEN) to a secret "
            "of 20 characters or more, and hosts to the names that it is reached by."
        )
