"""Contract: models/names and prices. Which address, which key, at which price."""

import sys
import types
from decimal import Decimal

import pytest

from abyme.core.events import Price
from abyme.errors import ConfigError
from abyme.models.names import LOCAL_AT_ONCE, resolve
from abyme.models.presets import PRESETS, Preset
from abyme.models.prices import FREE, parse_price
from abyme.run import profiles
from abyme.run.spec import Settings, settle

OPENAI = {"OPENAI_API_KEY": "sk-openai"}
BOTH = OPENAI | {"ABYME_API_KEY": "general"}


def test_a_preset_brings_its_address_and_its_key() -> None:
    found = resolve("openai:gpt-5", env=BOTH)

    assert found.name == "openai:gpt-5"
    assert found.chat_url == "https://api.openai.com/v1/chat/completions"
    assert (found.model, found.api_key) == ("gpt-5", "sk-openai")
    assert (found.loopback, found.local) == (False, False)


@pytest.mark.parametrize(
    ("provider", "url"),
    [
        ("anthropic", "https://api.anthropic.com/v1/chat/completions"),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"),
        ("openrouter", "https://openrouter.ai/api/v1/chat/completions"),
        ("deepseek", "https://api.deepseek.com/v1/chat/completions"),
        ("n1n", "https://api.n1n.ai/v1/chat/completions"),
        ("ollama", "http://127.0.0.1:11434/v1/chat/completions"),
        ("vllm", "http://127.0.0.1:8000/v1/chat/completions"),
        ("llamacpp", "http://127.0.0.1:8080/v1/chat/completions"),
    ],
)
def test_every_preset_resolves_with_the_general_key(provider: str, url: str) -> None:
    found = resolve(f"{provider}:m:7b", env={"ABYME_API_KEY": "general"})

    assert (found.chat_url, found.model) == (url, "m:7b")
    assert found.api_key == ("general" if found.preset.key_names else None)


def test_keys_have_an_order() -> None:
    env = BOTH | {"GOOGLE_API_KEY": "google", "GEMINI_API_KEY": " gemini\n"}

    assert resolve("openai:m", api_key="given", env=env).api_key == "given"
    assert resolve("gemini:m", env=env).api_key == "gemini"
    assert resolve("deepseek:m", env=env).api_key == "general"


@pytest.mark.parametrize("provider", sorted(set(PRESETS) - {"openai"}))
def test_openais_key_goes_to_no_other_provider(provider: str) -> None:
    preset = PRESETS[provider]
    if not preset.key_names:
        assert resolve(f"{provider}:m", env=OPENAI).api_key is None
        return
    for name, url in (
        (f"{provider}:m", None),
        ("m", preset.base_url),
        ("openai:m", preset.base_url),
    ):
        with pytest.raises(ConfigError, match=f"{provider} needs a key: set {preset.key_names[0]}"):
            resolve(name, base_url=url, env=OPENAI)


def test_a_providers_key_does_not_follow_its_name_to_openai() -> None:
    with pytest.raises(ConfigError, match="openai needs a key"):
        resolve("deepseek:m", base_url="https://api.openai.com", env={"DEEPSEEK_API_KEY": "d"})


def test_a_custom_address_takes_the_general_key_before_openais() -> None:
    url = "https://llm.example/v1"

    assert resolve("m", base_url=url, env=OPENAI).api_key == "sk-openai"
    assert resolve("m", base_url=url, env=BOTH).api_key == "general"
    assert resolve("m", base_url=url, env={}).api_key is None
    assert resolve("openai:m", base_url=url, env=OPENAI).api_key == "sk-openai"


@pytest.mark.parametrize("provider", [p for p in PRESETS.values() if p.key_names])
def test_a_providers_own_key_goes_to_no_other_host(provider: Preset) -> None:
    own = {provider.key_names[0]: "own"} if provider.name != "openai" else {}
    name, url = f"{provider.name}:m", "https://llm.example/v1"

    assert resolve(name, base_url=url, env=own).api_key is None
    assert resolve(name, base_url=url, env=own | {"ABYME_API_KEY": "general"}).api_key == "general"
    assert resolve(name, base_url=url, api_key="given", env=own).api_key == "given"


def test_with_an_address_a_model_keeps_its_colons() -> None:
    found = resolve("qwen2.5:7b", base_url="localhost:9000", env={})

    assert (found.name, found.model) == ("custom:qwen2.5:7b", "qwen2.5:7b")
    assert resolve("custom:m", base_url="localhost:9000", env={}).model == "m"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1/chat/completions"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1/chat/completions"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1/chat/completions"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1/chat/completions"),
        ("http://127.0.0.1:8000/v1/chat/completions", "http://127.0.0.1:8000/v1/chat/completions"),
        ("http://127.0.0.1:8000/chat/completions/", "http://127.0.0.1:8000/v1/chat/completions"),
        ("https://h.example/api/v3", "https://h.example/api/v3/chat/completions"),
        ("localhost:8000", "http://localhost:8000/v1/chat/completions"),
        ("[::1]:8000/v1", "http://[::1]:8000/v1/chat/completions"),
        (
            " https://h.example/d?api-version=1 ",
            "https://h.example/d/chat/completions?api-version=1",
        ),
    ],
)
def test_base_urls_are_taken_as_people_write_them(given: str, url: str) -> None:
    assert resolve("m", base_url=given, env={}).chat_url == url


@pytest.mark.parametrize(
    "url", ["ftp://h/v1", "http://", "http://h:port/v1", "", "http://[::1", "nonsense", "h.example"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="--base-url"):
        resolve("m", base_url=url, env={})


def test_a_local_model_takes_no_address() -> None:
    with pytest.raises(ConfigError, match=r"local:coder-1\.5b is served on this machine: leave"):
        resolve("local:coder-1.5b", base_url="http://127.0.0.1:1/v1", env={})


def test_credentials_in_an_address_are_refused_without_being_repeated() -> None:
    with pytest.raises(ConfigError, match="would end up in journals") as caught:
        resolve("m", base_url="https://me:hunter2@h.example/v1", env={})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("[::1]", True),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
    ],
)
def test_loopback_is_free_and_nothing_else_is(host: str, loopback: bool) -> None:
    found = resolve("m", base_url=f"http://{host}:1/v1", env={})

    assert found.loopback is loopback
    assert found.price == (FREE if loopback else None)


def test_a_given_price_holds_everywhere() -> None:
    price = Price(input_usd_micro=1, output_usd_micro=2)

    assert resolve("m", base_url="localhost:1", env={}, price=price).price == price
    assert resolve("local:coder-1.5b", env={}, price=price).price == price
    assert resolve("openai:m", env=OPENAI, price=price).price_source == "user"


def test_without_name_address_and_key_it_is_the_local_model() -> None:
    found = resolve(None, env={"HOME": "/home/me"})

    assert (found.name, found.local, found.price) == ("local:coder-1.5b", True, FREE)
    assert found.window_tokens == 8192


@pytest.mark.parametrize(
    ("name", "url", "env", "says"),
    [
        (None, None, OPENAI, r"OPENAI_API_KEY is set, but no model is named.*--model openai:"),
        (None, None, {"ABYME_API_KEY": "k"}, "there is a key, but no model is named"),
        ("gpt-5", None, OPENAI, "PROVIDER:MODEL, such as openai:gpt-5; providers: openai, anthr"),
        ("opnai:gpt-5", None, OPENAI, "unknown provider 'opnai'; known: openai, anthropic"),
        ("openai:", None, OPENAI, "name a model of openai, such as openai:"),
        ("openai:gpt-5", None, {}, r"openai needs a key: set OPENAI_API_KEY \(or ABYME_API_KEY\)"),
        ("openai:gpt-5", None, {"OPENAI_API_KEY": "sk-ü"}, "no HTTP header can carry"),
    ],
)
def test_errors_teach(name: str | None, url: str | None, env: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        resolve(name, base_url=url, env=env)


def test_a_proxy_is_taken_from_the_environment_but_never_for_loopback() -> None:
    env = {"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "internal.example, .corp"}

    assert resolve("m", base_url="https://h.example", env=env).proxy == "http://proxy:3128"
    assert resolve("m", base_url="https://a.internal.example", env=env).proxy is None
    assert resolve("m", base_url="https://localhost:1", env=env).proxy is None


@pytest.mark.parametrize("text", ["1", "1,2,3,4", "1,2,", "a,b", "-1,2", "1,inf", "", ",", "nan,1"])
def test_a_price_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="a price is IN,OUT"):
        parse_price(text)


def test_a_price_is_exact_and_rounded_up() -> None:
    assert parse_price("0.25, $2") == Price(input_usd_micro=250_000, output_usd_micro=2_000_000)
    assert parse_price("0.0000001,0") == Price(input_usd_micro=1, output_usd_micro=0)
    assert parse_price("1,8,0.1").cached_usd_micro == 100_000


def table_of(monkeypatch, input_price, output_price, cached_price):
    """Stand in for `genai_prices`; a price is a function of the hour of the day."""

    def calc_price(usage, *, model_ref, provider_id, genai_request_timestamp):
        if (model_ref, provider_id) != ("gpt-4o", "openai"):
            raise LookupError(model_ref)
        hour = genai_request_timestamp.hour
        of_input = cached_price if "cache_read_tokens" in usage else input_price
        model = types.SimpleNamespace(context_window=128_000)
        return types.SimpleNamespace(
            input_price=of_input(hour), output_price=output_price(hour), model=model
        )

    table = types.SimpleNamespace(Usage=lambda **tokens: tokens, calc_price=calc_price)
    monkeypatch.setitem(sys.modules, "genai_prices", table)
    monkeypatch.setattr("abyme.models.prices._version", lambda: "1.2.3")


def test_the_bundled_table_is_asked_for_what_the_user_did_not_price(monkeypatch) -> None:
    prices = Decimal("2.50"), Decimal(10), Decimal("0.25")
    table_of(monkeypatch, *[lambda _, price=price: price for price in prices])

    listed = resolve("openai:gpt-4o", env=OPENAI)
    unlisted = resolve("openai:unlisted", env=OPENAI)

    assert listed.price == Price(
        input_usd_micro=2_500_000, output_usd_micro=10_000_000, cached_usd_micro=250_000
    )
    assert (listed.price_source, listed.window_tokens) == ("table of genai-prices 1.2.3", 128_000)
    assert (unlisted.price, unlisted.price_source) == (None, "unknown")


def test_of_prices_that_change_with_the_hour_the_dearest_of_a_day_holds(monkeypatch) -> None:
    dear_by_day = lambda hour: Decimal(2 if hour == 12 else 1)  # noqa: E731
    same = lambda _: Decimal(2)  # noqa: E731
    table_of(monkeypatch, dear_by_day, dear_by_day, same)

    price = resolve("openai:gpt-4o", env=OPENAI).price

    assert price == Price(input_usd_micro=2_000_000, output_usd_micro=2_000_000)


def test_without_the_table_a_price_is_unknown(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)

    assert resolve("openai:gpt-4o", env=OPENAI).price is None


def test_how_many_calls_a_local_model_takes_at_once_is_known_and_of_others_not() -> None:
    spec = settle(Settings(model="local:coder-1.5b"), {})
    other = settle(Settings(model="m", base_url="http://127.0.0.1:1/v1"), {})

    strong = profiles.load("strong")

    assert spec.facts(spec.sub, strong).at_once == LOCAL_AT_ONCE == 1
    assert other.facts(other.sub, strong).at_once is None
