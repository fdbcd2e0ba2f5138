"""Contract: engine/tree under any order. An honest world answers effects in random order.

Whatever the order, with calls that fail, sessions that are lost, cells that leave calls
behind, nested children, stops, deadlines, and kills of the process from which the run is
resumed: the run ends, no ceiling is passed, what the ledger counts is at least what was
billed, holds are what is in flight, every batch is answered at most once with as many
results as were asked, what was answered before a kill is not asked of a model again,
and the records replay to the same effects.
"""

import json
import random
import re
from collections import Counter
from dataclasses import dataclass, field

import pytest
from core_doubles import Run, facts
from msgspec import structs

from abyme.core import effects as do
from abyme.core import events as ev
from abyme.core import history
from abyme.core.ids import ROOT, BatchId
from abyme.core.ledger import Amount
from abyme.core.limits import Limits
from abyme.core.tree import Tree

PRICE = ev.Price(input_usd_micro=1_250_000, output_usd_micro=10_000_000)
FAULTS = ("timed_out", "server", "rate_limited", "auth", "stream_cut")
MAX_STEPS = 4000


@dataclass
class Cell:
    number: int
    asked: dict = field(default_factory=dict)
    """Batch -> the request event, while it is not answered."""
    answered: list = field(default_factory=list)
    """(request event, results) of its batches, in the order of their answers."""
    again: list = field(default_factory=list)
    """The same of an earlier process: to be asked for again first."""
    expected: dict = field(default_factory=dict)
    """Batch -> the results that it had in an earlier process."""
    ending: bool = False


def results_of(asked) -> int:
    """Tell how many results a batch is answered with."""
    one = asked.purpose == "reduce" or (asked.task is not None and asked.task.price_only)
    return 1 if one and asked.requests else len(asked.requests)


class World:
    """Performs effects honestly, in an order of its own."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        pick = self.random.choice
        limits = Limits(
            confirm_usd=pick([None, None, "0.01"]),
            max_usd=pick(["0.2", "0.5", "2", "5"]),
            max_calls=pick([5, 30, 200, 200]),
            max_turns=pick([1, 3, 6, 12]),
            depth=pick([1, 2, 3, 4]),
            timeout_s=pick([None, 100.0]),
        )
        self.faults = pick([0.0, 0.03, 0.2])
        self.run = Run(root=facts("a:root", PRICE), sub=facts("a:sub", PRICE), limits=limits)
        self.opening, self.checks, self.cancelled = set(), set(), set()
        self.calls, self.cells, self.live = {}, {}, set()
        self.rebuilt, self.confirms = set(), {}
        self.past_cells = {}
        """(node, cell) -> what the cell had been answered when the process was killed."""
        self.billed = self.kills = 0
        self.batches = Counter()
        self.perform(self.run.effects)

    def perform(self, effects) -> None:  # noqa: C901 - one case an effect
        for effect in effects:
            match effect:
                case do.OpenSession(node=node, cells=cells):
                    if cells is not None:
                        self.rebuilt.add(node)
                    self.opening.add(node)
                    self.live.add(node)
                case do.CloseSession(node=node):
                    self.live.discard(node)
                    self.opening.discard(node)
                    self.checks.discard(node)
                    self.cells.pop(node, None)
                case do.AskModel(reserved=reserved):
                    assert reserved.call not in self.calls, "sent twice"
                    assert reserved.purpose == "sub" or effect.node in self.live
                    self.calls[reserved.call] = effect
                case do.CancelCall(call=call):
                    self.cancelled.add(call)
                case do.RunCell(node=node, cell=cell):
                    again = self.past_cells.pop((node, cell), [])
                    self.cells[node] = Cell(cell, again=again)
                case do.Confirm(node=node, batch=batch):
                    self.confirms[node, batch] = True
                case do.AnswerBatch():
                    self.answered(effect)
                case do.EndCell(node=node):
                    if node in self.cells:
                        self.cells[node].ending = True
                case do.CheckEvidence(node=node):
                    self.checks.add(node)

    def answered(self, effect: do.AnswerBatch) -> None:
        cell = self.cells.get(effect.node)
        if cell is None:
            return
        asked = cell.asked.pop(effect.batch)  # KeyError: answered twice
        cell.answered.append((asked, effect.results))
        if effect.refused is None:
            assert len(effect.results) == results_of(asked)
            for was, now in zip(cell.expected.pop(effect.batch, ()), effect.results, strict=False):
                assert was.failure is not None or was == now

    def give(self, event, node=ROOT) -> None:
        self.perform(self.run.give(event, node))
        ledger = self.run.tree.book.ledger
        total = ledger.spent + ledger.held
        for name, ceiling in ledger._ceilings():
            assert ceiling is None or getattr(total, name) <= ceiling
        assert ledger.held == sum(ledger._holds.values(), Amount())
        assert set(ledger._holds) == set(self.calls)

    def step(self) -> None:
        actions = [("open", node) for node in sorted(self.opening)]
        actions += [("call", call) for call in self.calls]
        actions += [("check", node) for node in sorted(self.checks)]
        for node, cell in self.cells.items():
            leaves = self.random.random() < 0.1  # a cell that does not wait for its calls
            if not cell.asked or cell.ending or leaves:
                actions.append(("end", node))
            if cell.again:
                actions = [("ask_again", node)]
                break
            if not cell.asked and not cell.ending:
                actions += [("ask", node)] * 4 + [("submit", node)]
        actions += [("confirm", key) for key in self.confirms]
        if self.random.random() < 0.02 and self.kills < 5:
            self.kill()
        elif self.random.random() < 0.01:
            final = self.random.random() < 0.3
            self.give(self.random.choice([ev.StopRequested(), ev.DeadlinePassed(final=final)]))
        elif actions:
            kind, which = self.random.choice(actions)
            getattr(self, kind)(which)
        else:
            assert self.cells, "nothing is under way and the run has not ended"

    def kill(self) -> None:
        """Let the process die, with all that is under way; go on in another one."""
        self.kills += 1
        for effect in self.calls.values():
            self.billed += int(effect.reserved.worst_usd_micro * self.random.random())
        for node, cell in self.cells.items():
            self.past_cells[node, cell.number] = [*cell.answered, *cell.again]
        for kept in (self.opening, self.checks, self.cancelled, self.live, self.rebuilt):
            kept.clear()
        self.calls.clear()
        self.cells.clear()
        self.confirms.clear()
        past = history.past(self.run.records)
        self.run.tree = past.retraced.tree
        resumed = ev.RunResumed(
            believed=past.believed,
            limits=self.run.tree.started.limits,
            carried=past.carried,
            next_call=past.next_call,
            resumed_at="2026-01-01T00:00:00+00:00",
        )
        self.give(resumed)

    def confirm(self, key) -> None:
        del self.confirms[key]
        allowed = self.random.random() < 0.8
        self.give(ev.BatchConfirmed(batch=key[1], allowed=allowed), key[0])

    def ask_again(self, node) -> None:
        """Ask as before the kill: what was answered is answered the same, without a call."""
        cell = self.cells[node]
        before, results = cell.again.pop(0)
        self.batches[node] += 1
        asked = structs.replace(before, batch=BatchId(self.batches[node]))
        cell.asked[asked.batch] = asked
        cell.expected[asked.batch] = results
        held = set(self.calls)
        self.give(asked, node)
        if results and all(result.failure is None for result in results):
            assert asked.batch not in cell.asked, "it has to wait for what was answered before"
            sent = set(self.calls) - held
            assert {self.calls[call].reserved.purpose for call in sent} <= {"turn"}

    def open(self, node) -> None:
        self.opening.discard(node)
        if node in self.rebuilt:
            self.rebuilt.discard(node)
            differs = [ev.Difference(cell=1, what="d")] if self.random.random() < 0.3 else []
            self.give(ev.SessionRebuilt(cells=1, differs=differs), node)
            return
        if self.random.random() < 0.05:
            self.give(ev.SessionLost(why="no", fatal=self.random.random() < 0.5), node)
        else:
            self.give(ev.SessionOpened(python="3", snapshots=True, layers=[]), node)

    def call(self, call) -> None:
        effect = self.calls.pop(call)
        node, worst = effect.node, effect.reserved
        if call in self.cancelled:
            failure = ev.Failure(fault="cancelled", message="c")
            sent = self.random.random() < 0.5
            self.billed += int(worst.worst_usd_micro * self.random.random()) if sent else 0
            self.give(ev.CallFailed(call=call, failure=failure, sent=sent), node)
        elif self.random.random() < self.faults:
            fault = self.random.choice(FAULTS)
            failure = ev.Failure(fault=fault, message=fault, retryable=fault != "auth")
            self.give(ev.CallFailed(call=call, failure=failure), node)
        else:
            code = self.random.choice(["```repl\nx\n```"] * 20 + ["prose"])
            usage = ev.Usage(
                completion_tokens=int(worst.worst_tokens * self.random.random()),
                cost_usd_micro=int(worst.worst_usd_micro * self.random.random()),
            )
            self.billed += usage.cost_usd_micro
            text = code if worst.purpose == "turn" else self.sub_reply(effect)
            self.give(ev.CallSettled(call=call, text=text, finish="stop", usage=usage), node)

    def sub_reply(self, effect) -> str:
        """Judge numbered items: mostly well, at times without some of them, or not at all."""
        numbers = re.findall(r"^(\d+)\.", effect.messages[0].content, re.MULTILINE)
        if not numbers or self.random.random() < 0.1:
            return "ok"
        judged = {n: "even" if int(n) % 2 else "odd" for n in numbers if self.random.random() < 0.9}
        return json.dumps(judged)

    def check(self, node) -> None:
        self.checks.discard(node)
        missing = self.random.choice([[], ["quote"]])
        self.give(ev.EvidenceChecked(found=[], missing=missing), node)

    def ask(self, node) -> None:
        self.batches[node] += 1
        batch, cell = BatchId(self.batches[node]), self.cells[node]
        requests = [
            ev.Request(
                prompt=f"p{self.random.randrange(8)}" + "y" * self.random.choice([0, 3000, 30_000]),
                fresh=self.random.random() < 0.1,
            )
            for _ in range(self.random.choice([0, 1, 2, 5, 12]))
        ]
        purpose = self.random.choice(["llm", "llm", "rlm", "map", "reduce"])
        task = None
        if purpose in ("map", "reduce"):
            requests = [structs.replace(one, fresh=False) for one in requests]
            task = self.task(purpose)
        if purpose == "reduce" and not requests:
            requests = [ev.Request(prompt="p")]
        asked = ev.CallsRequested(
            cell=cell.number, batch=batch, purpose=purpose, requests=requests, task=task
        )
        cell.asked[batch] = asked
        self.give(asked, node)

    def task(self, purpose) -> ev.Task:
        pick = self.random.choice
        return ev.Task(
            instruction=pick(["judge", "weigh"]),
            labels=pick([None, ["even", "odd"]]) if purpose == "map" else None,
            samples=pick([1, 1, 3]) if purpose == "map" else 1,
            pack=pick([0, 1, 3]),
            fresh=self.random.random() < 0.2,
            price_only=self.random.random() < 0.1,
        )

    def submit(self, node) -> None:
        evidence = self.random.choice([[], ["quote"]])
        cell = self.cells[node].number
        self.give(ev.AnswerSubmitted(cell=cell, value=1, evidence=evidence), node)

    def end(self, node) -> None:
        cell = self.cells.pop(node)
        if self.random.random() < self.faults / 3:
            self.give(ev.SessionLost(why="dead", fatal=self.random.random() < 0.1), node)
            return
        ended = self.random.choice(["clean", "clean", "clean", "raised", "rolled_back"])
        ended = "interrupted" if cell.ending else ended
        self.give(ev.CellFinished(cell=cell.number, output="out", ended=ended), node)


@pytest.mark.parametrize("group", range(8))
def test_any_order_of_what_happens_ends_within_the_ceilings(group):
    for seed in range(group * 25, group * 25 + 25):
        world = World(seed)
        for _ in range(MAX_STEPS):
            if world.run.tree.finished is not None:
                break
            world.step()
        assert world.run.tree.finished is not None, f"seed {seed} did not end"
        for call in list(world.calls):
            world.cancelled.add(call)
            world.call(call)

        ledger = world.run.tree.book.ledger
        assert ledger.held == Amount()
        assert world.billed <= ledger.spent.usd_micro
        counting = history.believed(world.run.records)
        again = Tree(world.run.started)
        assert [again.step(r) for r in counting] == [world.run.history[r.seq] for r in counting]
