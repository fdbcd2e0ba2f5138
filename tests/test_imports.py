"""Contract: guest/imports. What a cell may import, what it is told, what the journal has of it."""

import sys

import pytest
from jail_doubles import ANY, bench

from abyme.apps.cli.isolating import given
from abyme.core.isolation import Isolation
from abyme.errors import ConfigError
from abyme.guest.imports import FAMILIES, NETWORK, PROCESSES, PROGRAMS, REFUSED, STRICT
from abyme.guest.zygote import PRELOAD

OTHER_VERSIONS = {
    *("_interpreters", "_interpchannels", "_interpqueues", "_xxinterpchannels"),
    *("_xxsubinterpreters", "_testlimitedcapi", "asyncore", "asynchat", "crypt", "distutils"),
    *("imaplib", "nis", "nntplib", "ossaudiodev", "pipes", "smtpd", "spwd", "telnetlib"),
}
NOT_OURS = {
    *("requests", "httpx", "aiohttp", "urllib3", "websockets", "openai", "anthropic", "litellm"),
    *("cffi", "_cffi_backend", "pip", "setuptools", "pkg_resources", "abyme"),
    *("_ctypes_test", "_testcapi", "_testinternalcapi"),
}


@pytest.fixture(scope="module")
def jail():
    with bench() as made:
        yield made


@pytest.fixture
def repl(jail):
    with jail.repl() as made:
        yield made


@pytest.fixture(scope="module")
def strict():
    with bench(isolation=Isolation(imports="strict")) as made, made.repl() as opened:
        yield opened


@pytest.fixture(scope="module")
def listed():
    allowed = ["os", "xml.etree", "subprocess"]
    isolation = Isolation(imports="listed", allowed=allowed)
    with bench(isolation=isolation) as made, made.repl() as opened:
        yield opened


def refused(repl, code, name, instead=None):
    finished = repl.cell(code)
    last = finished.error.rstrip().splitlines()[-1]
    assert last.startswith(f"SecurityViolation: `{name}` may not be imported: ")
    assert instead is None or last.endswith(instead)
    assert (finished.ended, finished.violations) == ("raised", [name])
    return last


@pytest.mark.parametrize(
    ("code", "name", "instead"),
    [
        ("import subprocess", "subprocess", PROGRAMS),
        ("import json, subprocess as sp", "subprocess", PROGRAMS),
        ("from subprocess import run as go", "subprocess", PROGRAMS),
        ("from subprocess import *", "subprocess", PROGRAMS),
        ("def f():\n    import socket\nf()", "socket", NETWORK),
        ("from urllib import parse, request", "urllib.request", NETWORK),
        ("import http.client as c", "http.client", NETWORK),
        ("import xmlrpc.client", "xmlrpc.client", NETWORK),
        ("import requests", "requests", NETWORK),
        ("import multiprocessing.pool", "multiprocessing.pool", PROCESSES),
        (
            "from concurrent.futures import ProcessPoolExecutor",
            "concurrent.futures.ProcessPoolExecutor",
            PROCESSES,
        ),
        ("__import__('ctypes')", "ctypes", None),
        ("__import__('os', fromlist=['path']); __import__('mmap', fromlist=['x'])", "mmap", None),
        ("import importlib; importlib.import_module('ctypes.util')", "ctypes.util", None),
        ("import importlib; importlib.__import__('pty')", "pty", None),
        ("from importlib import import_module as bring\nbring('pwd')", "pwd", None),
        ("exec('import webbrowser')", "webbrowser", None),
        ("eval(compile('__import__(\"resource\")', 'a.py'[:0] + '<x>', 'eval'))", "resource", None),
        ("import pkgutil; pkgutil.resolve_name('socket:socket')", "socket", NETWORK),
        (r"import pickle; pickle.loads(b'csubprocess\nPopen\n.')", "subprocess", PROGRAMS),
        ("class S(str): pass\n__import__(S('socket'))", "socket", NETWORK),
        ("import abyme.guest.calls", "abyme.guest.calls", None),
        ("import pdb", "pdb", None),
        ("import pip", "pip", None),
    ],
)
def test_a_module_that_reaches_outside_is_refused_by_the_name_it_is_imported_by(
    repl, code, name, instead
):
    refused(repl, code, name, instead)


def test_what_models_use_can_be_imported(repl):
    code = """
import os, sys, io, pathlib, tempfile, signal, gc, inspect, threading, sqlite3, asyncio, pickle
import os.path as p
from urllib.parse import quote
from http import HTTPStatus
from concurrent.futures import ThreadPoolExecutor
from unittest import mock
position, subprocess_count = p.join("a", "b"), 1
print(position, pathlib.Path("a/b.txt").suffix, quote("a b"))
"""

    finished = repl.cell(code)

    assert (finished.output, finished.error) == ("a/b .txt a%20b\n", None)
    assert finished.violations == []


def test_what_the_standard_library_imports_itself_is_left_alone(repl):
    code = """
import asyncio, datetime, platform, uuid, collections
async def main():
    await asyncio.sleep(0)
    return 5
print(await main(), datetime.datetime.strptime("2020", "%Y").year, uuid.uuid4().version)
print(collections.namedtuple("P", "a b")(1, 2))
import threading
seen = []
t = threading.Thread(target=lambda: seen.append(1)); t.start(); t.join()
print(seen, len(platform.python_version().split(".")))
"""

    assert repl.out(code) == "5 2020 4\nP(a=1, b=2)\n[1] 3\n"


def test_code_that_does_without_goes_on_and_the_attempt_is_told(repl):
    code = """
try:
    import requests
except ImportError as error:
    kept = error
try:
    import socket
except SecurityViolation:
    print(type(kept).__name__, kept.name)
"""

    finished = repl.cell(code)

    assert (finished.output, finished.error) == ("SecurityViolation requests\n", None)
    assert finished.violations == ["requests", "socket"]
    assert repl.cell("1").violations == []


def test_attempts_are_told_once_each_and_in_bounds(repl):
    code = """
names = ["socket"] * 3 + ["subprocess." + "x" * 500] + [f"ctypes.a{i}" for i in range(30)]
for name in names:
    try:
        __import__(name)
    except ImportError:
        pass
"""

    told = repl.cell(code).violations

    assert told[:3] == ["socket", "subprocess." + "x" * 89, "ctypes.a0"]
    assert len(told) == 20


def test_attempts_of_a_cell_that_is_rolled_back_are_told(jail):
    with jail.repl() as repl:
        if not repl.session.facts.snapshots:
            pytest.skip("no PID namespaces, so no snapshots")
        repl.stops = "max_calls"

        finished = repl.cell(
            "try:\n    import socket\nexcept ImportError:\n    pass\nllm_query('a')\nwhile 1: pass"
        )

    assert finished.violations == ["socket"]


def test_a_rebound_import_is_put_back_with_the_policy(repl):
    finished = repl.cell(
        "import builtins\nbuiltins.__import__ = lambda *a, **k: None\nimport socket"
    )

    assert finished.notes == ["builtins.__import__ was put back"]
    refused(repl, "import socket", "socket")


def test_results_and_violations_can_be_pickled(repl):
    code = """
import pickle
llm_query("a")
again = pickle.loads(pickle.dumps((calls, SecurityViolation("no"))))
print(len(again[0]), repr(again[1]))
"""

    assert repl.out(code) == "1 SecurityViolation('no')\n"


def test_a_module_that_is_nowhere_is_missing_and_no_violation(repl):
    finished = repl.cell("import subprocesses")

    assert finished.error.endswith("ModuleNotFoundError: No module named 'subprocesses'\n")
    assert finished.violations == []


def test_strict_allows_what_computes_and_names_it(strict):
    assert strict.out("import math, json, re, collections.abc\nfrom statistics import mean\n1") == (
        "1\n"
    )
    assert strict.out("import datetime; datetime.datetime.strptime('2007', '%Y').year") == "2007\n"
    strict.out("from __future__ import annotations")
    said = refused(strict, "import os", "os")
    assert "there are abc, array, bisect" in said
    assert said.endswith("unicodedata, zoneinfo")
    refused(strict, "import subprocess", "subprocess", PROGRAMS)
    refused(strict, "import importlib", "importlib")
    refused(strict, "__import__('sys')", "sys")


def test_a_list_of_the_users_own_holds_with_all_that_is_below(listed):
    code = (
        "import os.path, subprocess, xml.etree.ElementTree as E\nfrom xml import etree\nE.__name__"
    )

    assert listed.out(code) == "'xml.etree.ElementTree'\n"
    refused(listed, "import json", "json", "there are os, subprocess, xml.etree")
    refused(listed, "from xml import dom", "xml")
    refused(listed, "import socket", "socket", NETWORK)
    assert "NameError: name 'json' is not defined" in listed.cell("json").error


def test_any_refuses_nothing():
    with bench(isolation=ANY) as made, made.repl() as repl:
        finished = repl.cell("import socket, ctypes, subprocess\n__import__.__module__")

    assert (finished.output, finished.violations) == ("'builtins'\n", [])


def test_each_refused_name_is_a_module_of_some_python_or_one_that_models_try():
    top = {name.partition(".")[0] for name in REFUSED}

    assert top - sys.stdlib_module_names <= OTHER_VERSIONS | NOT_OURS
    assert sum(len(names.split()) for names in FAMILIES.values()) == len(REFUSED)


def test_strict_holds_modules_of_the_standard_library_that_are_loaded():
    assert sys.stdlib_module_names >= STRICT - {"_pylong"}  # from 3.12 on
    assert STRICT - {"__future__"} <= set(PRELOAD)
    assert not STRICT & set(REFUSED)


@pytest.mark.parametrize("name", ["os;", "a b", "", "os.", "mödul"])
def test_a_list_holds_names_of_modules(name):
    with pytest.raises(ConfigError, match="no name of a module"):
        Isolation(imports="listed", allowed=["json", name])


def test_a_list_fits_into_an_order():
    fits = [f"m{i:03}" for i in range(1_000)] * 2 + ["n" * 192]

    assert Isolation(imports="listed", allowed=fits).allowed == fits
    with pytest.raises(ConfigError, match="more than 8,192 characters"):
        Isolation(imports="listed", allowed=[*fits, "o"])


def options(imports):
    names = ("tier", "apart", "engine", "runtime", "image", "require", "packages")
    values = ("jail", False, "", "", "", (), ())
    return dict(zip(names, values, strict=True)) | {"imports": imports}


def test_a_policy_with_a_slip_in_it_is_not_taken_for_a_module():
    assert given(options("json, xml.etree")).allowed == ["json", "xml.etree"]
    assert given(options("strict")).imports == "strict"
    with pytest.raises(ConfigError, match="'strct' is neither standard, strict, any nor a module"):
        given(options("strct"))


@pytest.mark.parametrize("given_here", ["", " ,", "json.a-b", "json..x", "os.mödul"])
def test_what_is_wrong_on_the_command_line_is_told_in_its_words(given_here):
    with pytest.raises(ConfigError, match=r"^--imports: "):
        given(options(given_here))


@pytest.mark.parametrize("name", ["engine", "runtime", "image"])
@pytest.mark.parametrize("tier", ["jail", "wasm"])
def test_an_option_of_containers_is_not_passed_over_in_another_sandbox(name, tier):
    told = f"--container-{name} goes with --sandbox container; this run's is --sandbox {tier}"

    with pytest.raises(ConfigError, match=told):
        given(options("any") | {"tier": tier, name: "runsc"})
    assert getattr(given(options("any") | {"tier": "container", name: "runsc"}), name) == "runsc"
