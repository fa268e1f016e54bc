"""`holdfast tokens`: what is printed once opens the live node until it is revoked."""

from pathlib import Path

from tests.cli.conftest import Command
from tests.node.processes import NodeProcess

JOB = {"task": "mail.welcome", "payload": {"user_id": 1}}


def test_a_token_opens_a_live_node_within_its_scopes_until_it_is_revoked(at: Command, node: NodeProcess) -> None:
    made = at("tokens", "make", "shop", "enqueue", "read", "--expires", "30d", "--json").json
    headers = {"Authorization": f"Bearer {made['token']}"}
    assert node.ask("POST", "/api/v1/jobs", JOB, headers=headers, over="tcp")[0] == 201
    status, problem = node.ask("PATCH", "/api/v1/queues/mail", {"paused": True}, headers=headers, over="tcp")
    assert (status, problem["code"]) == (403, "http-403")
    [listed] = at("tokens", "ls", "--json").json
    assert (listed["name"], listed["scopes"]) == ("shop", ["enqueue", "read"])
    assert listed["expires_at"] - listed["created_at"] == 30 * 86_400
    assert made["token"] not in at("tokens", "ls").out
    assert at("tokens", "make", "shop", "read").code != 0  # the name is taken, and nothing is on record of it
    assert at("tokens", "revoke", "shop").code == 0
    noted = [(one["action"], one["subject"]) for one in at("audit", "--json").json["items"]]
    assert noted[:2] == [("revoke_token", "shop"), ("make_token", "shop")]
    assert node.ask("GET", "/api/v1/stats", headers=headers, over="tcp")[0] == 401


def test_wrong_names_scopes_and_folders_are_refused_with_what_to_do(cli: Command, tmp_path: Path) -> None:
    absent = cli("tokens", "make", "shop", "read", "--data", tmp_path / "nothing")
    assert absent.code != 0
    assert "Start the node once" in absent.err
    assert not (tmp_path / "nothing").exists()
    assert cli("tokens", "make", "shop", "--data", tmp_path).code == 2
    assert "'everything' is not one of" in cli("tokens", "make", "shop", "everything", "--data", tmp_path).err
    assert "--expires" in cli("tokens", "make", "shop", "read", "--expires", "soon", "--data", tmp_path).err
    assert "there are: none" in cli("tokens", "revoke", "shop", "--data", tmp_path).err
