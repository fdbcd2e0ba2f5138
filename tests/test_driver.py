"""Contract: run/driver. Write ahead, then act; leave nothing behind."""

import asyncio

import pytest
from core_doubles import facts, started
from run_doubles import FakeSandbox, ListJournal, NoEvidence

from abyme.core import events as ev
from abyme.core.limits import Limits
from abyme.core.tree import Tree
from abyme.errors import JournalError, ModelError
from abyme.run.driver import Driver, Ports
from abyme.testing import FakeClock, ScriptedModel


def clean(cell, output=""):
    return ev.CellFinished(cell=cell, output=output, ended="clean")


async def submits(session, cell):
    session.submit(cell, "done")
    return clean(cell)


def make(cells, replies, *, sub=(), journal=None, clock=None, on_record=None, **more):
    root = replies if isinstance(replies, ScriptedModel) else ScriptedModel(replies)
    sandbox = FakeSandbox(cells)
    journal = journal or ListJournal()
    ports = Ports(
        journal=journal,
        sandbox=sandbox,
        context=NoEvidence(),
        models={"test:root": root, "test:sub": ScriptedModel(sub)},
        clock=clock or FakeClock(),
        seal=lambda text: NoEvidence(),
        preview=lambda context, question: f"a first look, for: {question}",
        on_record=on_record,
    )
    return Driver(started(**more), ports), sandbox, journal


def code(text):
    return f"```repl\n{text}\n```"


def drive(driver):
    return asyncio.run(driver.run())


def test_a_run_goes_from_question_to_answer_and_its_journal_replays():
    async def asks(session, cell):
        results = await session.ask(cell, "p", "q")
        return clean(cell, " ".join(r.text for r in results))

    driver, sandbox, journal = make(
        {"ask": asks, "submit": submits}, [code("ask"), code("submit")], sub=["a", "b"]
    )
    effects = []
    step = driver.tree.step
    driver.tree.step = lambda record: effects.append(step(record)) or effects[-1]
    finished = drive(driver)

    assert (finished.status, finished.value) == ("answered", "done")
    assert sandbox.sessions[0].closed
    assert [r.seq for r in journal.records] == list(range(len(journal.records)))
    again = Tree(journal.records[0].event)
    assert [again.step(record) for record in journal.records[:-1]] == effects


def test_an_attempt_is_in_the_journal_before_it_is_sent():
    journal = ListJournal()
    seen = []

    def reply(request):
        kinds = [type(r.event).__name__ for r in journal.records[: journal.flushed]]
        seen.append(kinds[-1])
        return code("submit")

    driver, _, _ = make({"submit": submits}, ScriptedModel(reply), journal=journal)
    drive(driver)

    assert seen == ["CallReserved"]


def test_a_full_disk_stops_the_run_before_anything_is_sent():
    journal = ListJournal(full_after=2)
    root = ScriptedModel([code("submit")])
    driver, sandbox, _ = make({"submit": submits}, root, journal=journal)

    with pytest.raises(JournalError, match="disk full"):
        drive(driver)
    assert root.requests == []
    assert all(session.closed for session in sandbox.sessions)


def test_a_failed_attempt_is_made_again_after_the_providers_own_pause():
    clock = FakeClock()
    limited = ModelError("slow down", failure="rate_limited", retryable=True, retry_after_s=5.0)
    driver, _, journal = make(
        {"submit": submits}, [limited, code("submit")], clock=clock, limits=Limits(timeout_s=None)
    )

    async def main():
        run = asyncio.ensure_future(driver.run())
        while not run.done():
            await asyncio.sleep(0)
            clock.advance(1.0)
        return run.result()

    finished = asyncio.run(main())
    assert finished.status == "answered"
    reserved = [r for r in journal.records if isinstance(r.event, ev.CallReserved)]
    assert [r.event.attempt for r in reserved] == [1, 2]
    assert reserved[1].event.call == reserved[0].event.call


def test_stopping_while_a_cell_runs_ends_it_and_lets_the_root_close():
    running = asyncio.Event()

    async def hangs(session, cell):
        running.set()
        await asyncio.Event().wait()

    driver, sandbox, _ = make({"hang": hangs, "submit": submits}, [code("hang"), code("submit")])

    async def main():
        run = asyncio.ensure_future(driver.run())
        await running.wait()
        driver.stop()
        return await run

    finished = asyncio.run(main())
    assert (finished.status, finished.value) == ("partial", "done")
    assert finished.reason == "stopped by the user"
    assert sandbox.sessions[0].closed


def test_calls_in_flight_at_the_end_are_journalled_with_their_end():
    started_call = asyncio.Event()

    async def hang(request):
        started_call.set()
        await asyncio.Event().wait()

    driver, _, journal = make({}, ScriptedModel(hang))

    async def main():
        run = asyncio.ensure_future(driver.run())
        await started_call.wait()
        driver.stop()
        driver.stop()
        return await run

    finished = asyncio.run(main())
    assert finished.status == "stopped"
    ends = [r.event for r in journal.records if isinstance(r.event, ev.CallFailed)]
    reserved = [r.event.call for r in journal.records if isinstance(r.event, ev.CallReserved)]
    assert sorted(end.call for end in ends) == sorted(reserved)
    assert all(end.failure.fault == "cancelled" for end in ends)
    assert isinstance(journal.records[-1].event, ev.RunFinished)


def test_cancelling_the_run_leaves_no_session_and_no_task():
    running = asyncio.Event()

    async def hangs(session, cell):
        running.set()
        await asyncio.Event().wait()

    driver, sandbox, _ = make({"hang": hangs}, [code("hang")])

    async def main():
        run = asyncio.ensure_future(driver.run())
        await running.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(main()) == set()
    assert sandbox.sessions[0].closed


def test_a_child_runs_in_a_session_of_its_own():
    async def asks(session, cell):
        results = await session.ask(cell, "count", purpose="rlm")
        session.submit(cell, results[0].text)
        return clean(cell)

    driver, sandbox, _ = make({"ask": asks, "submit": submits}, [code("ask"), code("submit")])
    finished = drive(driver)

    assert finished.value == "done"
    assert len(sandbox.sessions) == 2
    assert all(session.closed for session in sandbox.sessions)


def test_a_child_is_shown_a_context_of_its_own_with_its_question_in_view():
    async def asks(session, cell):
        part = ev.ContextPart(text="abc")
        batch, requests = ev.BatchId(1), [ev.Request(prompt="Which letter?", context=part)]
        session._batches[batch] = asyncio.get_running_loop().create_future()
        session.on_event(
            ev.CallsRequested(cell=cell, batch=batch, purpose="rlm", requests=requests)
        )
        await session._batches[batch]
        session.submit(cell, "done")
        return clean(cell)

    driver, _, journal = make({"ask": asks, "submit": submits}, [code("ask"), code("submit")])
    drive(driver)

    opened = [r.event.preview for r in journal.records if isinstance(r.event, ev.SessionOpened)]
    assert opened == [None, "a first look, for: Which letter?"]


def test_a_thousand_sub_calls_are_answered_in_order():
    async def asks(session, cell):
        results = await session.ask(cell, *map(str, range(1000)))
        session.submit(cell, [r.text for r in results])
        return clean(cell)

    driver, _, _ = make({"ask": asks}, [code("ask")])
    driver._ports.models["test:sub"] = ScriptedModel(lambda r: r.messages[-1].content * 2)
    finished = drive(driver)

    assert finished.value == [str(i) * 2 for i in range(1000)]


def test_an_unknown_price_is_carried_as_no_cost():
    driver, _, _ = make({"submit": submits}, [code("submit")], root=facts("test:root", None))

    assert drive(driver).status == "answered"


def test_a_cell_that_begins_in_the_same_group_as_a_stop_is_ended():
    async def hangs(session, cell):
        await asyncio.Event().wait()

    async def stops_then_replies(request):
        if len(root.requests) == 1:
            driver.stop()
            return code("hang")
        return code("submit")

    root = ScriptedModel(stops_then_replies)
    driver, _, _journal = make({"hang": hangs, "submit": submits}, root)
    finished = drive(driver)

    assert (finished.status, finished.value) == ("partial", "done")


def test_a_child_that_cannot_be_opened_is_a_failure_of_that_call():
    async def asks(session, cell):
        results = await session.ask(cell, "count", purpose="rlm")
        session.submit(cell, results[0].failure.fault)
        return clean(cell)

    driver, sandbox, _ = make({"ask": asks}, [code("ask")])
    opens = sandbox.open

    async def open_once(**given):
        if sandbox.sessions:
            raise OSError(24, "Too many open files")
        return await opens(**given)

    sandbox.open = open_once

    assert drive(driver).value == "child_failed"


def test_an_attempt_cancelled_before_it_was_sent_is_said_to_be_unsent():
    clock = FakeClock()
    waits = asyncio.Event()
    limited = ModelError("slow", failure="rate_limited", retryable=True, retry_after_s=30.0)

    def reply(request):
        waits.set()
        raise limited

    driver, _, journal = make({}, ScriptedModel(reply), clock=clock, limits=Limits(timeout_s=None))

    async def main():
        run = asyncio.ensure_future(driver.run())
        await waits.wait()
        await asyncio.sleep(0)
        driver.stop()
        driver.stop()
        return await run

    assert asyncio.run(main()).status == "stopped"
    failed = [r.event for r in journal.records if isinstance(r.event, ev.CallFailed)]
    assert [(e.failure.fault, e.sent) for e in failed if e.failure.fault == "cancelled"] == [
        ("cancelled", False)
    ] * (len(failed) - 1)
