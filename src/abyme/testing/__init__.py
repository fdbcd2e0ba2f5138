"""Test doubles for programs that use abyme, and for abyme's own tests. Public API.

    from abyme.testing import Fault, ScriptedEndpoint

    with ScriptedEndpoint(["Hello", Fault.rate_limited(retry_after_s=1), "Hi"]) as endpoint:
        rlm = RLM(model="any", base_url=endpoint.url)

`ScriptedModel` answers inside the process; `ScriptedEndpoint` is a real HTTP server
on loopback that speaks OpenAI's chat completions and misbehaves when told to;
``python -m abyme.testing --script replies.json`` is the same for another process.
`FakeClock` is time that a test owns.
"""

from abyme.models.scripted import ScriptedModel, ScriptRanOut
from abyme.testing.clock import FakeClock, settle
from abyme.testing.endpoint import Billing, RateLimit, ScriptedEndpoint
from abyme.testing.replies import Fault, Reply, read_script

__all__ = [
    "Billing",
    "FakeClock",
    "Fault",
    "RateLimit",
    "Reply",
    "ScriptRanOut",
    "ScriptedEndpoint",
    "ScriptedModel",
    "read_script",
    "settle",
]
