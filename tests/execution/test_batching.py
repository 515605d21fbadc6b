"""Jobs in lockstep: the order in which they run, and their errors."""

import contextvars
import threading

import pytest

from gflow.execution import current, using
from gflow.execution.batching import run_batched
from gflow.execution.checkpointing import Checkpoint, Checkpointer


def test_without_a_batch_a_request_has_no_answer():
    assert current().request("anything") is None


def test_jobs_run_one_at_a_time_in_order_until_all_wait():
    seen, batches = [], []

    def job(name, count):
        def work():
            for i in range(count):
                seen.append((name, i))
                assert current().request(name + str(i)) == f"{name}{i}!"
            return name

        return work

    def serve(requests):
        batches.append(list(requests))
        return [request + "!" for request in requests]

    assert run_batched([job("a", 3), job("b", 1), job("c", 2)], serve) == ["a", "b", "c"]
    assert batches == [["a0", "b0", "c0"], ["a1", "c1"], ["a2"]]
    assert seen == [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("c", 1), ("a", 2)]


def test_an_error_of_one_job_is_raised_when_the_others_have_ended():
    ended = []

    def bad():
        current().request(0)
        raise KeyError("bad")

    def good():
        ended.append((current().request(1), current().request(2)))

    with pytest.raises(KeyError, match="bad"):
        run_batched([bad, good], lambda requests: [10 * request for request in requests])
    assert ended == [(10, 20)]


def test_an_error_while_serving_is_raised_by_every_request_and_jobs_may_catch_it():
    def job(name):
        with pytest.raises(ValueError, match="no more"):
            current().request(name)
        return name

    def serve(requests):
        raise ValueError("no more")

    assert run_batched([lambda: job("a"), lambda: job("b")], serve) == ["a", "b"]


def test_jobs_inherit_the_context_of_their_caller_and_their_threads_end():
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(7)

    def job():
        before = variable.get()
        variable.set(8)
        current().request(None)
        return before

    before = threading.active_count()
    assert run_batched([job, job], lambda requests: requests) == [7, 7]
    assert variable.get() == 7
    assert threading.active_count() == before


def test_requests_that_cannot_be_batched_continue_at_once():
    seen = []

    def job(name):
        def work():
            seen.append(name)
            answers = current().request(f"alone {name}"), current().request(f"common {name}")
            seen.append(name)
            return answers

        return work

    results = run_batched(
        [job("a"), job("b")],
        lambda requests: [1] * len(requests),
        lambda request: request.startswith("common"),
    )
    assert results == [(None, 1)] * 2
    assert seen == ["a", "b", "a", "b"]


@pytest.mark.parametrize("answers", [[], [1, 2, 3]])
def test_no_job_waits_forever_after_a_wrong_number_of_answers(answers):
    before = threading.active_count()
    with pytest.raises(ValueError, match="zip"):
        run_batched(
            [lambda: current().request(0), lambda: current().request(1)], lambda requests: answers
        )
    assert threading.active_count() == before


class NullStore:
    def put_pieces(self, first, pieces):
        pass

    def put_checkpoint(self, index, state):
        pass

    def pieces(self):
        return iter(())

    def checkpoint(self):
        return None

    def clear(self):
        pass


def test_no_request_is_made_inside_a_piece():
    """The piece would stay open while other jobs begin theirs."""

    def job():
        with current().resumable("outer") as piece:
            inside = current().request("inside")
            piece.finish(Checkpoint)
        with using(serve=None):
            return inside, current().request("alone"), None

    with using(checkpointer=Checkpointer(NullStore())):
        assert run_batched([job, job], lambda requests: requests) == [(None, None, None)] * 2
