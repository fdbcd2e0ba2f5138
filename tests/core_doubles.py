"""A run in a test's hand: feeds records to a `Tree` and keeps the effects."""

from typing import Any

from abyme.core import effects as do
from abyme.core import events as ev
from abyme.core.history import written_for
from abyme.core.ids import ROOT, BatchId, CallId, NodeId
from abyme.core.limits import Limits
from abyme.core.tree import Tree
from abyme.run import profiles

FREE = ev.Price(input_usd_micro=0, output_usd_micro=0)


def facts(name="test:root", price=FREE, **more: Any) -> ev.ModelFacts:
    return ev.ModelFacts(name=name, price=price, **more)


def started(**more: Any) -> ev.RunStarted:
    values = {
        "question": "How many?",
        "preview": "str, 10 characters",
        "context_chars": 10,
        "context_documents": 1,
        "limits": Limits(),
        "root": facts(),
        "sub": facts("test:sub"),
        "profile": profiles.load("strong"),
        "seed": 7,
        "hash_seed": 1,
        "started_at": "2026-01-01T00:00:00+00:00",
    }
    return ev.RunStarted(**(values | more))


class Run:
    """Drives a tree by hand; `effects` are those of the last record."""

    def __init__(self, **more: Any) -> None:
        self.started = started(**more)
        self.tree = Tree(self.started)
        self.seq = 0
        self.at_s = 0.0
        self.effects: list[do.AnyEffect] = []
        self.records: list[ev.Record] = []
        self.history: list[list[do.AnyEffect]] = []
        self.give(self.started)

    def give(self, event: ev.AnyEvent, node: str = ROOT) -> list[do.AnyEffect]:
        record = ev.Record(seq=self.seq, at_s=self.at_s, node=NodeId(node), event=event)
        self.effects = self.take(record)
        for effect in self.effects:
            if (written := written_for(effect)) is not None:
                record = ev.Record(seq=self.seq, at_s=self.at_s, node=effect.node, event=written)
                assert self.take(record) == []
        return self.effects

    def take(self, record: ev.Record) -> list[do.AnyEffect]:
        self.seq += 1
        self.records.append(record)
        self.history.append(self.tree.step(record))
        return self.history[-1]

    def ready(self, node: str = ROOT) -> list[do.AnyEffect]:
        return self.give(ev.SessionOpened(python="3.11", snapshots=True, layers=[]), node)

    def all(self, kind: type) -> list[Any]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def one(self, kind: type) -> Any:
        (effect,) = self.all(kind)
        return effect

    def reply(self, text: str, node: str = ROOT, **usage: Any) -> list[do.AnyEffect]:
        """Answer the turn that was just asked."""
        return self.settle(self.one(do.AskModel).reserved.call, text, node, **usage)

    def rebuilt(self, *differs: ev.Difference, node: str = ROOT) -> list[do.AnyEffect]:
        return self.give(ev.SessionRebuilt(cells=0, differs=list(differs)), node)

    def settle(self, call: int, text: str, node: str = ROOT, **usage: Any) -> list[do.AnyEffect]:
        wrong = usage.pop("wrong", None)
        event = ev.CallSettled(
            call=CallId(call), text=text, finish="stop", usage=ev.Usage(**usage), wrong=wrong
        )
        return self.give(event, node)

    def fail(self, call: int, fault: str, node: str = ROOT, **more: Any) -> list[do.AnyEffect]:
        failure = ev.Failure(fault=fault, message=f"{fault} happened", **more)  # type: ignore[arg-type]
        return self.give(ev.CallFailed(call=CallId(call), failure=failure), node)

    def code(self, code: str = "x = 1", node: str = ROOT) -> do.RunCell:
        self.reply(f"```repl\n{code}\n```", node)
        return self.one(do.RunCell)

    def ask(self, *prompts: str, batch: int = 1, cell: int = 1, node: str = ROOT, **more: Any):
        purpose = more.pop("purpose", "llm")
        if purpose == "rlm" and "text" in more:
            more["context"] = ev.ContextPart(text=more.pop("text"))
        requests = [ev.Request(prompt=prompt, **more) for prompt in prompts]
        event = ev.CallsRequested(
            cell=cell, batch=BatchId(batch), purpose=purpose, requests=requests
        )
        return self.give(event, node)

    def done(self, output: str = "", cell: int = 1, node: str = ROOT, **more: Any):
        values = {"ended": "clean"} | more
        return self.give(ev.CellFinished(cell=cell, output=output, **values), node)

    def submit(self, value: Any, cell: int = 1, node: str = ROOT, evidence=()):
        return self.give(ev.AnswerSubmitted(cell=cell, value=value, evidence=list(evidence)), node)

    def checked(self, found=(), missing=(), node: str = ROOT, wrong=None):
        event = ev.EvidenceChecked(found=list(found), missing=list(missing), wrong=wrong)
        return self.give(event, node)
