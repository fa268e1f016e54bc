"""Whatever is done from the command line is in the audit log, whether a hub stands between or not."""

from tests.cli.places import Here, everywhere, here

__all__ = ["here"]


@everywhere
def test_each_change_is_on_record_with_who_what_and_how_many(here: Here) -> None:
    here.ok("tasks", "create", "elsewhere")
    here.ok("enqueue", "elsewhere", "{}", "--queue", "audited")
    steps = (
        (["queues", "pause", "audited", "--why", "deploy"], ("change_queue", "audited", 1)),
        (["queues", "limit", "audited", "5"], ("change_queue", "audited", 1)),
        (["tasks", "edit", "elsewhere", "--title", "E"], ("change_definition", "elsewhere", 1)),
        (["schedules", "add", "s", "elsewhere", "--every", "1h"], ("save_schedule", "s", 1)),
        (["schedules", "pause", "s"], ("save_schedule", "s", 1)),
        (["schedules", "rm", "s"], ("save_schedule", "s", 1)),
        (["jobs", "cancel", "--queue", "audited", "--yes"], ("cancel", "1 jobs by filter", 1)),
    )
    for words, told in steps:
        here.ok(*words)
        [entry] = here.json("audit", "--limit=1")["items"]
        assert (entry["action"], entry["subject"], entry["count"]) == told, words
        assert entry["who"], words


@everywhere
def test_a_workers_configuration_is_on_record_where_it_can_be_changed(here: Here) -> None:
    if here.kind == "journal":
        return  # a worker without a node has nobody to tell it
    here.ok("workers", "set", "painter", "--create", "--queue", "audited=5")
    [entry] = here.json("audit", "--limit=1")["items"]
    assert (entry["subject"], entry["count"]) == ("painter", 1)
    here.ok("workers", "rm", "painter")
    [entry] = here.json("audit", "--limit=1")["items"]
    assert (entry["action"], entry["subject"], entry["count"]) == ("delete_worker", "painter", 1)
