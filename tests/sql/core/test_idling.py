"""What a process knows of there being nothing to do: pure."""

from __future__ import annotations

from holdfast.job import commands as c
from holdfast.stores.sql.idling import APART, Idling

WANT = c.Want(queues=(c.QueueWant("mail", 10),), limit=10, instance="i1")


def idle() -> Idling:
    """The state of a process whose claim has left nothing."""
    idling = Idling(steered=False)
    idling.claiming(WANT)
    idling.claimed(1, left_nothing=True)
    return idling


def test_a_process_whose_claims_find_work_asks_no_look_for_ready_jobs() -> None:
    idling = Idling(steered=False)
    idling.claiming(WANT)
    assert idling.asks(0.0) == ((), True)
    idling.claimed(1, left_nothing=True)
    assert idling.asks(0.0) == (("mail",), True)
    idling.claimed(2, left_nothing=False)
    assert idling.asks(0.0) == ((), True)


def test_a_look_that_takes_long_is_rare_and_the_others_leave_out_what_walks() -> None:
    idling = idle()
    idling.looked(100.0, 0.1, asked=("mail",), ready=False)
    assert idling.asks(100.1)[1]
    idling.looked(100.1, 2.0, asked=("mail",), ready=False)
    assert not idling.asks(102.0 + APART)[1]
    assert idling.asks(100.1 + 2.0 * APART)[1]


def test_on_a_steered_clock_no_look_is_left_out() -> None:
    idling = Idling(steered=True)
    idling.looked(100.0, 60.0, asked=(), ready=False)
    assert idling.asks(100.0)[1]


def test_a_wait_in_vain_needs_no_claim_when_a_look_saw_nothing_for_the_same_queues() -> None:
    idling = idle()
    idling.looked(96.0, 0.01, asked=("mail",), ready=False)
    idling.waited(100.0, in_vain=True)
    assert (idling.was_in_vain(), idling.was_in_vain()) == (True, False)  # told once
    idling.waited(102.0, in_vain=True)
    assert not idling.was_in_vain()  # the look is too old by now
    idling.waited(100.0, in_vain=False)
    assert not idling.was_in_vain()
    idling.waited(100.0, in_vain=True)
    idling.claiming(c.Want(queues=(c.QueueWant("other", 10),), limit=10, instance="i1"))
    assert not idling.was_in_vain()


def test_a_look_that_asked_for_no_queue_or_saw_a_job_says_nothing_of_there_being_none() -> None:
    for asked, ready in (((), False), (("mail",), True)):
        idling = idle()
        idling.looked(100.0, 0.01, asked=asked, ready=ready)
        idling.waited(100.0, in_vain=True)
        assert not idling.was_in_vain()


def test_what_a_claim_left_empty_is_empty_until_something_is_heard() -> None:
    idling = idle()
    assert (idling.was_emptied(1), idling.was_emptied(1)) == (True, False)  # told once
    idling = idle()
    assert not idling.was_emptied(2)
