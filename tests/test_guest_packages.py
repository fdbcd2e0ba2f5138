"""Contract: guest packages. Loaded before lock-down, with nothing that lies beside them."""

import importlib.util
import sys

import pytest
from core_doubles import Run
from jail_doubles import ANY, Bench, bench, needs_snapshots

from abyme import RLM, replay
from abyme.core import effects as do
from abyme.core import events as ev
from abyme.core.isolation import Isolation
from abyme.errors import ConfigError, SandboxUnavailable
from abyme.guest.packages import Unloadable, load
from abyme.journals.folder import RunFolder
from abyme.sandboxes.jail.packages import find
from abyme.testing import ScriptedModel

FILES = {
    "orchard/__init__.py": "__version__ = '4.2'\nfrom stalk import LENGTH\n"
    "def pick():\n    from orchard import basket\n    return basket.SIZE\n"
    "def press():\n    import cider\n",
    "orchard/basket.py": "SIZE = 7\n",
    "orchard/ladder.py": "RUNGS = 9\n",
    "orchard/tests/__init__.py": "",
    "stalk.py": "LENGTH = 3\n",
    "cider.py": "BARRELS = 2\n",
    "hasty.py": "import threading as t\nt.Thread(target=t.Event().wait, daemon=True).start()\n",
    "broken.py": "import nowhere_at_all\n",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lib") / "site-packages"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    sys.path.append(str(folder))
    importlib.invalidate_caches()
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def jail(site):
    with bench(isolation=Isolation(packages=["orchard"])) as made:
        yield made


@pytest.fixture
def repl(jail):
    with jail.repl() as made:
        yield made


def test_a_package_is_there_with_what_it_needs_and_what_it_would_load_later(repl):
    assert repl.session.facts.packages == ("orchard 4.2",)
    code = "import orchard.ladder, stalk\n(stalk.LENGTH, orchard.pick(), orchard.ladder.RUNGS)"

    assert repl.out(code) == "(3, 7, 9)\n"


def test_what_lies_beside_a_package_is_out_of_reach(repl):
    finished = repl.cell("import cider")

    assert "ModuleNotFoundError: No module named 'cider'" in finished.error
    assert finished.notes == [
        "only the standard library, orchard, stalk is here, without what needs files or a network"
    ]
    assert "No module named 'cider'" in repl.cell("import orchard; orchard.press()").error
    assert repl.out("import sys; sys.path") == "[]\n"


def test_a_part_that_was_not_loaded_says_so(repl):
    finished = repl.cell("import orchard.tests")

    assert "No module named 'orchard.tests'" in finished.error
    assert finished.notes == [
        "this part of the package was not loaded when the run began, and cannot be now"
    ]


def test_a_package_shows_no_folder_of_the_host(repl):
    assert repl.out("import orchard; orchard.__file__") == "'/packages/orchard/__init__.py'\n"
    assert repl.out("orchard.pick.__code__.co_filename") == "'/packages/orchard/__init__.py'\n"


def test_every_layer_is_on_with_packages(repl):
    with bench(isolation=ANY) as plain, plain.repl() as other:
        assert repl.session.facts.layers == other.session.facts.layers


def test_packages_are_allowed_by_every_policy(site):
    for isolation in (
        Isolation(imports="strict", packages=["orchard"]),
        Isolation(imports="listed", allowed=["json"], packages=["orchard"]),
    ):
        with bench(isolation=isolation) as made, made.repl() as repl:
            assert repl.out("import orchard.ladder\norchard.LENGTH") == "3\n"
            assert repl.cell("import os").violations == ["os"]


def test_a_run_without_packages_has_none(site):
    with bench() as made, made.repl() as repl:
        assert repl.session.facts.packages == ()
        assert "No module named 'orchard'" in repl.cell("import orchard").error


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("orchards", "is not installed in the Python that abyme runs in"),
        ("orchard.ladder", "give the name that it is imported by"),
        ("--index-url", "give the name that it is imported by"),
        ("socket", "it is no package of yours"),
        ("abyme", "it is no package of yours"),
    ],
)
def test_a_name_that_is_no_package_is_refused_up_front(site, name, why):
    with pytest.raises(ConfigError, match=why):
        find([name])


def refused(*packages):
    """What `begin` says of packages that cannot be served."""
    found = {}

    class Failing(Bench):
        def wait(self, what):
            try:
                return super().wait(what)
            except SandboxUnavailable as error:
                found.setdefault("why", str(error))
                raise

    with pytest.raises(SandboxUnavailable):
        Failing(isolation=Isolation(packages=list(packages)))
    return found["why"]


def test_a_package_that_starts_threads_is_refused_and_named(site, jail):
    assert refused("orchard", "hasty") == (
        "guest package 'hasty' starts threads when it is loaded (1); a REPL is forked, and a "
        "process with threads cannot be: it would hang"
    )


def test_a_package_that_cannot_be_imported_is_refused_and_named(site, jail):
    assert refused("broken") == (
        "guest package 'broken' cannot be loaded: "
        "ModuleNotFoundError: No module named 'nowhere_at_all'"
    )


def test_another_version_of_python_loads_no_packages():
    with pytest.raises(Unloadable, match="are installed for cpython-27, and cells run with"):
        load({"python": "cpython-27", "names": ["orchard"], "folders": []})


def test_a_killed_fork_server_is_started_again_with_its_packages(site):
    with bench(isolation=Isolation(packages=["orchard"])) as made:
        with made.repl() as repl:
            assert repl.out("import orchard; orchard.LENGTH") == "3\n"
        made.wait(made.run._zygote.aclose())
        with made.repl() as repl:
            assert repl.out("import orchard; orchard.LENGTH") == "3\n"


def test_a_warm_fork_server_is_for_runs_without_packages(site, jail):
    async def begun():
        jail.jail.warm_up()
        warm = jail.jail._pool[0]
        zygote = await jail.jail._zygote(None, find(["orchard"]))
        await zygote.aclose()
        return zygote.packages, jail.jail._pool == [warm]

    assert jail.wait(begun()) == (("orchard 4.2",), True)


needs_numpy = pytest.mark.skipif(
    importlib.util.find_spec("numpy") is None, reason="numpy is not installed"
)
needs_pandas = pytest.mark.skipif(
    importlib.util.find_spec("pandas") is None, reason="pandas is not installed"
)
needs_duckdb = pytest.mark.skipif(
    importlib.util.find_spec("duckdb") is None, reason="duckdb is not installed"
)


@needs_numpy
def test_numpy_computes_over_cells_and_roll_backs():
    with bench(isolation=Isolation(packages=["numpy"])) as made, made.repl() as repl:
        needs_snapshots(repl)
        repl.out("import numpy as np\nm = np.arange(16.0).reshape(4, 4) + np.eye(4)")
        repl.stops = "max_calls"
        undone = repl.cell("m[:] = 0\nllm_query('a')\nwhile 1: pass")
        repl.stops = None

        assert undone.ended == "rolled_back"
        assert repl.out("round(float(np.linalg.det(m)), 6)") == "-49.0\n"
        assert repl.out("np.random.default_rng(1).integers(9, size=3).tolist()") == "[4, 4, 6]\n"
        assert repl.out(
            "np.ma.masked_equal([1, 2], 2).sum(), np.fft.fft([1, 0]).real.tolist()"
        ) == ("(np.int64(1), [1.0, 1.0])\n")
        assert repl.out("import io; np.loadtxt(io.StringIO('1 2')).tolist()") == "[1.0, 2.0]\n"


@needs_pandas
def test_pandas_reads_groups_and_shows():
    code = """
import io, pandas as pd
rows = "d,c,v\\n2024-01-02,a,1\\n2024-02-03,b,2\\n2024-02-09,a,4"
df = pd.read_csv(io.StringIO(rows), parse_dates=["d"])
print(df.groupby("c")["v"].sum().to_dict(), df.merge(df, on="c").shape)
print(df.set_index("d").resample("MS")["v"].sum().tolist())
print(df.pivot_table(index="c", values="v").to_csv())
print("<table" in df.to_html(), pd.read_json(io.StringIO(df.to_json())).shape)
print(df.query("v > 1").shape)
"""
    with bench(isolation=Isolation(packages=["pandas"])) as made, made.repl() as repl:
        lines = repl.out(f"import warnings; warnings.simplefilter('ignore')\n{code}").splitlines()

    assert lines == [
        "{'a': 5, 'b': 2} (5, 5)",
        "[1, 6]",
        "c,v",
        "a,2.5",
        "b,2.0",
        "",
        "True (3, 3)",
        "(2, 3)",
    ]


@needs_duckdb
def test_duckdb_answers_in_cell_after_cell():
    with bench(isolation=Isolation(packages=["duckdb"])) as made, made.repl() as repl:
        repl.out(
            "import duckdb\nc = duckdb.connect()\n_ = c.execute('create table t as from range(99)')"
        )
        for _ in range(3):
            assert repl.out("c.execute('select sum(range) from t').fetchall()") == "[(4851,)]\n"
        assert repl.out("duckdb.sql('select 6*7').fetchall()") == "[(42,)]\n"


def opened(*packages):
    run = Run()
    event = ev.SessionOpened(python="3", snapshots=True, layers=[], packages=list(packages))
    run.give(event)
    return run


def last_message(run):
    return run.one(do.AskModel).messages[-1].content


def test_the_first_request_names_packages_in_one_line_only_where_there_are_some():
    line = "\n\n[packages that can be imported: numpy 2.1.3, pandas 2.2]\n"

    with_packages = last_message(opened("numpy 2.1.3", "pandas 2.2"))

    assert with_packages.startswith(f"How many?{line}")
    assert with_packages.replace(line.strip("\n"), "").replace("How many?\n\n", "How many?") == (
        last_message(opened())
    )


def test_packages_that_were_brought_up_to_date_meanwhile_are_told():
    run = opened("numpy 2.1.3")
    run.reply("```repl\nx = 1\n```")
    run.give(ev.SessionLost(why="killed", fatal=False))

    run.give(ev.SessionRebuilt(cells=0, packages=["numpy 2.2.0"]))

    assert "packages that can be imported now: numpy 2.2.0" in last_message(run)


def test_policy_and_packages_are_recorded_and_the_replay_has_them_again(site, tmp_path):
    code = "import orchard\ntry:\n    import os\nexcept ImportError as e:\n    print(e)"
    turns = [f"```repl\n{code}\n```", "```repl\nsubmit(orchard.pick())\n```"]
    isolation = Isolation(imports="strict", packages=["orchard"])
    with RLM(model=ScriptedModel(turns), runs_dir=tmp_path, sandbox=isolation) as rlm:
        answer = rlm.ask("How many?", "text")

    assert (answer.value, answer.status) == (7, "answered")
    recording = RunFolder(answer.run).recording()
    events = [record.event for record in recording.records]
    assert recording.started.isolation == isolation
    assert [e.packages for e in events if isinstance(e, ev.SessionOpened)] == [["orchard 4.2"]]
    cells = [e.violations for e in events if isinstance(e, ev.CellFinished)]
    assert cells == [["os"], []]
    replayed = replay(answer.run)
    assert (replayed.same, replayed.cells) == (True, 2)
