"""Contract: a run that requires layers begins only where its REPLs have verified them."""

import asyncio
from types import SimpleNamespace

import pytest

from abyme.core.isolation import LAYERS, Isolation
from abyme.core.limits import Limits
from abyme.errors import ConfigError, SandboxUnavailable
from abyme.run import required

ON = ["seccomp", "rlimits"]


class Tier:
    """A sandbox whose REPLs have verified `layers`, and that counts what is open."""

    hash_seed = 5

    def __init__(self, *later):
        self.later = list(later)
        """What each REPL to come has verified."""
        self.opened = 0
        self.closed = 0
        self.ended = False

    async def begin(self, **_):
        return self

    async def open(self, **_):
        self.opened += 1
        facts = SimpleNamespace(layers=tuple(self.later.pop(0)))
        return SimpleNamespace(facts=facts, aclose=self.close_one)

    async def close_one(self):
        self.closed += 1

    async def aclose(self):
        self.ended = True


def begin(tier, *layers):
    return asyncio.run(
        required.begin(
            tier, context=None, limits=Limits(), isolation=Isolation(require=list(layers))
        )
    )


def test_nothing_is_opened_where_nothing_is_required():
    tier = Tier()

    assert begin(tier) is tier
    assert tier.opened == 0


def test_a_layer_that_is_on_costs_one_repl_that_is_ended():
    tier = Tier(ON)

    run = begin(tier, "seccomp")

    assert (run.hash_seed, tier.opened, tier.closed, tier.ended) == (5, 1, 1, False)


def test_a_layer_that_is_off_is_named_and_nothing_stays_open():
    tier = Tier(ON)

    with pytest.raises(SandboxUnavailable, match=r"required and not on: landlock. `abyme doctor`"):
        begin(tier, "seccomp", "landlock")

    assert (tier.opened, tier.closed, tier.ended) == (1, 1, True)


def test_all_means_every_layer_of_the_tier():
    tier = Tier([layer for layer in LAYERS["jail"] if layer != "sealed_view"])

    with pytest.raises(SandboxUnavailable, match="not on: sealed_view"):
        begin(tier, "all")


def test_a_later_repl_without_the_layer_is_ended_and_refused():
    tier = Tier(ON, ["seccomp"])
    run = begin(tier, "rlimits")

    with pytest.raises(SandboxUnavailable, match="not on: rlimits"):
        asyncio.run(run.open(node="0.1", seed=1))

    assert (tier.opened, tier.closed) == (2, 2)


def test_a_layer_that_no_tier_knows_is_an_error_that_lists_them():
    with pytest.raises(ConfigError, match=r"no layer 'firewall' in the tier jail; .*landlock.*all"):
        Isolation(require=["firewall"])


def test_each_tier_has_layers_of_its_own():
    with pytest.raises(ConfigError, match="no layer 'empty_root' in the tier wasm"):
        Isolation(tier="wasm", require=["empty_root"])

    Isolation(tier="container", require=["read_only_root", "empty_root"])


@pytest.mark.parametrize("name", ["engine", "runtime", "image"])
def test_what_belongs_to_containers_is_an_error_in_another_tier(name):
    with pytest.raises(ConfigError, match=f"{name}='runsc' goes with tier='container'"):
        Isolation(**{name: "runsc"})

    assert getattr(Isolation(tier="container", **{name: "runsc"}), name) == "runsc"
