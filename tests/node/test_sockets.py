"""Addresses: what is bound, what is refused, and that a dead node's socket is no obstacle."""

from pathlib import Path

import pytest

from holdfast.errors import ConfigError
from holdfast.node import sockets
from holdfast.node.errors import CannotListen, PortInUse, UnsafeBind
from holdfast.wire.place import answers, find_node


def test_a_socket_that_a_killed_node_left_behind_is_replaced(tmp_path: Path) -> None:
    first = sockets.bind_unix(tmp_path)
    assert find_node(tmp_path) == tmp_path / "node.sock"
    first.close()  # the file stays, as after a kill
    assert (tmp_path / "node.sock").exists()
    assert find_node(tmp_path) is None
    with sockets.bind_unix(tmp_path):
        assert answers(tmp_path / "node.sock")
        with pytest.raises(CannotListen, match="one that answers"):
            sockets.bind_unix(tmp_path)


def test_a_busy_port_names_the_setting_that_chooses_another() -> None:
    with sockets.bind_tcp("127.0.0.1", 0, "--port") as bound, pytest.raises(PortInUse, match="--port"):
        sockets.bind_tcp("127.0.0.1", bound.getsockname()[1], "--port")


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(CannotListen, match=r"192\.0\.2\.1"):
        sockets.bind_tcp("192.0.2.1", 0, "--port")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.9.9.9"])
def test_loopback_needs_no_credentials(host: str) -> None:
    sockets.refuse_unsafe(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.org"])
def test_other_addresses_do(host: str) -> None:
    with pytest.raises(UnsafeBind, match="api_token"):
        sockets.refuse_unsafe(host, "short")
    sockets.refuse_unsafe(host, "x" * 20)


def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_text("")
    with pytest.raises(ConfigError, match="--data"):
        sockets.prepare_folder(file)
