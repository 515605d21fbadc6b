"""Jobs side by side: who goes on when, and what becomes of errors."""

import contextvars
import threading

import pytest

from gflow.execution import current, using
from gflow.execution.batching import run_batched
from gflow.execution.checkpointing import Checkpoint, Checkpointer


def test_without_a_batch_a_request_has_no_answer():
    assert current().request("anything") is None


def test_jobs_run_one_at_a_time_in_order_until_all_wait():
    seen, asked = [], []

    def job(name, questions):
        def work():
            for i in range(questions):
                seen.append((name, i))
                assert current().request(name + str(i)) == f"{name}{i}!"
            return name

        return work

    def answer(questions):
        asked.append(list(questions))
        return [q + "!" for q in questions]

    assert run_batched([job("a", 3), job("b", 1), job("c", 2)], answer) == ["a", "b", "c"]
    assert asked == [["a0", "b0", "c0"], ["a1", "c1"], ["a2"]]
    assert seen == [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("c", 1), ("a", 2)]


def test_an_error_of_one_job_is_raised_when_the_others_have_ended():
    ended = []

    def bad():
        current().request(0)
        raise KeyError("bad")

    def good():
        ended.append((current().request(1), current().request(2)))

    with pytest.raises(KeyError, match="bad"):
        run_batched([bad, good], lambda asked: [10 * q for q in asked])
    assert ended == [(10, 20)]


def test_an_error_while_serving_is_raised_by_every_request_and_jobs_may_catch_it():
    def job(name):
        with pytest.raises(ValueError, match="no more"):
            current().request(name)
        return name

    def answer(asked):
        raise ValueError("no more")

    assert run_batched([lambda: job("a"), lambda: job("b")], answer) == ["a", "b"]


def test_jobs_have_the_context_of_who_started_them_and_leave_no_thread():
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(7)

    def job():
        before = variable.get()
        variable.set(8)
        current().request(None)
        return before

    before = threading.active_count()
    assert run_batched([job, job], lambda asked: asked) == [7, 7]
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

    found = run_batched(
        [job("a"), job("b")], lambda asked: [1] * len(asked), lambda q: q.startswith("common")
    )
    assert found == [(None, 1)] * 2
    assert seen == ["a", "b", "a", "b"]


@pytest.mark.parametrize("answers", [[], [1, 2, 3]])
def test_nobody_is_left_waiting_where_answers_are_missing(answers):
    before = threading.active_count()
    with pytest.raises(ValueError, match="zip"):
        run_batched(
            [lambda: current().request(0), lambda: current().request(1)], lambda asked: answers
        )
    assert threading.active_count() == before


class Nowhere:
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
    """It would stay open while others begin theirs."""

    def job():
        with current().resumable("outer") as piece:
            inside = current().request("inside")
            piece.finish(Checkpoint)
        with using(serve=None):
            return inside, current().request("alone"), None

    with using(checkpointer=Checkpointer(Nowhere())):
        assert run_batched([job, job], lambda asked: asked) == [(None, None, None)] * 2
