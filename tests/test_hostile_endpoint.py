"""Contract: the ledger, end to end. A hostile endpoint under a root that tries to overspend.

The endpoint bills beyond the estimate, ignores max_tokens, fails at random and lies about
usage; the root asks in loops, in threads, in batches, by children, by samples, and catches
every refusal. By the endpoint's own count nothing is spent above the ceiling but the overrun
that is recorded, and nothing is left behind.
"""

import random

import pytest

from abyme import RLM, Limits
from abyme.core import events as ev
from abyme.journals.folder import RunFolder
from abyme.testing import Billing, Fault, Reply, ScriptedEndpoint

PRICE = ev.Price(input_usd_micro=1_000_000, output_usd_micro=10_000_000)
MAX_USD = 0.15
GREED = """
import threading
def single():
    for n in range(300):
        try: llm_query(f"{who} loop {n} " + "x" * SIZE)
        except Exception as error: failures.append(str(error)); break
def batches():
    size = 400
    while size:
        try: llm_query_batched([f"{who} batch {size} {n} " + "x" * SIZE for n in range(size)])
        except Exception as error: failures.append(str(error))
        size //= 2
def samples():
    for n in range(50):
        try: llm_query(f"{who} vote {n}", samples=20)
        except Exception as error: failures.append(str(error)); break
def children():
    asked = [f"greedy child {who} {n}" for n in range(3)]
    try: rlm_query_batched(asked, [f"{who} {n}" for n in range(3)])
    except Exception as error: failures.append(str(error))
SIZE, failures, who = 2000, [], context[:20]
threads = [threading.Thread(target=work) for work in (single, batches, samples, children)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(failures), failures[:2])
"""


def root_of(chance, faults, reply):
    """A root that never stops asking, over an endpoint with faults of its own."""

    def answer(body):
        messages = body["messages"]
        if chance.random() < faults:
            return chance.choice(
                [Fault.server(), Fault.rate_limited(0), Fault.drop(), Fault.garbage_json()]
            )
        if messages[0]["role"] != "system":
            return reply(messages)
        if "LAST TURN" in messages[-1]["content"]:
            return Reply(text="```repl\nsubmit('partial ' + str(len(calls)))\n```")
        return Reply(text=f"```repl\n{GREED}\n```")

    return answer


def beyond_cap(messages):
    return Reply(text="word " * 8000)


def short(messages):
    return Reply(text="ok")


def lies(**figures):
    return Billing(price=PRICE, report=lambda usage: usage | figures)


def cheap(times):
    """Tell the true tokens, and a cost that is so many times too low."""

    def report(usage):
        true_usd = (usage["prompt_tokens"] + usage["completion_tokens"] * 10) / 1e6
        return usage | {"cost": true_usd / times}

    return Billing(price=PRICE, report=report)


LIES = {
    "honest": (Billing(price=PRICE), short, 0.0),
    "faults at random": (Billing(price=PRICE), short, 0.2),
    "ignores max_tokens": (Billing(price=PRICE, obeys_cap=False), beyond_cap, 0.0),
    "reports no usage": (Billing(price=PRICE, report=lambda usage: None), short, 0.1),
    "reports nothing used": (lies(prompt_tokens=0, completion_tokens=0), short, 0.0),
    "reports a token each": (lies(prompt_tokens=1, completion_tokens=1), beyond_cap, 0.0),
    "reports less than nothing": (lies(prompt_tokens=-5, completion_tokens=-1e30), short, 0.0),
    "reports a tenth": (
        Billing(price=PRICE, report=lambda usage: {k: v // 10 for k, v in list(usage.items())[:2]}),
        beyond_cap,
        0.0,
    ),
    "reports a cost of nothing": (lies(cost=0.0), short, 0.0),
    "reports a fiftieth of the cost": (cheap(50), short, 0.0),
    "reports a ninety-ninth of the cost": (cheap(99), beyond_cap, 0.0),
    "reports less than half of the cost": (cheap(2.3), short, 0.1),
}


@pytest.mark.parametrize("lie", LIES)
def test_not_a_cent_is_spent_above_the_ceiling_beyond_the_recorded_overrun(lie, tmp_path):
    billing, reply, faults = LIES[lie]
    chance = random.Random(7)
    limits = Limits(max_usd=MAX_USD, max_turns=4, depth=3, timeout_s=60)
    with (
        ScriptedEndpoint(root_of(chance, faults, reply), billing=billing) as endpoint,
        RLM("m", base_url=endpoint.url, price=(1, 10), limits=limits, runs_dir=tmp_path) as rlm,
    ):
        answer = rlm.ask("Spend!", "alpha beta")

    usage, records = answer.usage, RunFolder(answer.run).recording().records
    assert answer.status == "partial"
    assert endpoint.billed_usd_micro <= (MAX_USD + usage.overrun_usd) * 1e6
    assert endpoint.billed_usd_micro <= usage.cost_usd * 1e6
    assert usage.cost_usd <= MAX_USD + usage.overrun_usd
    ended = {r.event.call for r in records if isinstance(r.event, ev.CallSettled | ev.CallFailed)}
    assert ended >= {r.event.call for r in records if isinstance(r.event, ev.CallReserved)}
    assert isinstance(records[-1].event, ev.RunFinished)
