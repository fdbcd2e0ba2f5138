"""Contract: contexts/git. A repository at a revision is read from its objects, and runs nothing."""

import hashlib
import os
import select
import shutil
import stat
import subprocess
import sys
import zlib
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from abyme.contexts import git
from abyme.contexts.again import again
from abyme.contexts.choice import Choice
from abyme.contexts.git_process import Git
from abyme.contexts.kept import located, must_be_kept
from abyme.contexts.load import load_paths
from abyme.contexts.places import repository, without_secrets
from abyme.contexts.walk import Walk
from abyme.errors import ContextError

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

ENV = {"PATH": os.environ.get("PATH", os.defpath)}
WHO = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


def run(folder: Path, *args: str, data: bytes = b"") -> str:
    done = subprocess.run(
        ["git", "-C", folder, *args], input=data, env=ENV | WHO, capture_output=True, check=True
    )
    return done.stdout.decode().strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    (folder / "src").mkdir(parents=True)
    run(folder, "init", "-q", "-b", "main")
    (folder / "a.txt").write_text("first")
    (folder / "src" / "b.py").write_text("code")
    run(folder, "add", ".")
    run(folder, "commit", "-q", "-m", "one")
    run(folder, "tag", "v1")
    (folder / "a.txt").write_text("second")
    run(folder, "commit", "-q", "-a", "-m", "two")
    (folder / "a.txt").write_text("not committed")
    return folder


def texts(*sources, **more) -> dict[str, str]:
    loaded = load_paths(sources, env=ENV, **more)
    with closing(loaded.context) as context:
        return {context.label(n): context.text(n) for n in range(context.documents)}


def skipped(source: str) -> dict[str, str]:
    with closing(Walk([source], env=ENV)) as walk:
        return dict(walk.skipped)


def tree(folder: Path, *entries: tuple[str, str, bytes]) -> str:
    """Write a tree that git itself would refuse to make: (mode, name, content or hash)."""
    packed = b""
    for mode, name, data in entries:
        kept = run(folder, "hash-object", "-w", "--stdin", data=data) if mode != "160000" else ""
        oid = data.decode() if mode == "160000" else kept
        packed += f"{mode} {name}".encode() + b"\0" + bytes.fromhex(oid)
    made = run(folder, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", data=packed)
    return run(folder, "commit-tree", made, "-m", "odd")


def test_a_revision_is_read_and_not_the_working_tree(repo) -> None:
    assert texts(f"git+{repo}") == {"a.txt": "second", "src/b.py": "code"}
    assert texts(f"git+{repo}@v1") == {"a.txt": "first", "src/b.py": "code"}
    assert texts(f"git+{repo}@HEAD~1", choice=Choice(include=("*.txt",))) == {"a.txt": "first"}
    assert (repo / "a.txt").read_text() == "not committed"


def test_a_folder_of_a_repository_gives_its_files_under_the_repositorys_paths(repo) -> None:
    assert texts(f"git+{repo}/src@v1") == {"src/b.py": "code"}


def test_beside_others_files_stand_under_the_repositorys_name(repo, tmp_path) -> None:
    (tmp_path / "note.txt").write_text("note")
    found = texts(f"git+{repo}@v1", f"git+{repo}", tmp_path / "note.txt")
    assert list(found) == [
        *("repo/a.txt", "repo/src/b.py"),
        *("repo~2/a.txt", "repo~2/src/b.py", "note.txt"),
    ]


def test_the_manifest_names_the_commit_and_a_resumed_run_reads_that_one(repo) -> None:
    source = f"git+{repo}"
    loaded = load_paths([source], env=ENV)
    loaded.context.close()
    commit = run(repo, "rev-parse", "HEAD")
    assert loaded.context.manifest.revisions == {source: commit}

    run(repo, "commit", "-q", "-a", "-m", "three")
    origin = SimpleNamespace(sources=[source], located=located([source]), context_key="")
    context = again(origin, loaded.context.manifest, repo, env=ENV)
    with closing(context):
        assert context.text(0) == "second"


def test_a_resumed_run_reads_what_its_patterns_chose(repo) -> None:
    loaded = load_paths([repo], choice=Choice(exclude=("*.py",)))
    loaded.context.close()
    (repo / "new.py").write_text("left out as well")
    origin = SimpleNamespace(sources=[str(repo)], located=[str(repo)], context_key="")
    context = again(origin, loaded.context.manifest, repo)
    context.close()
    assert list(context.names) == ["a.txt"]


def test_links_submodules_and_large_file_pointers_are_listed_as_skipped(repo) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    commit = tree(
        repo,
        ("120000", "link", b"/etc/passwd"),
        ("160000", "module", b"1" * 40),
        ("100644", "plain.txt", b"plain"),
        ("100644", "weights.bin", pointer),
    )
    loaded = load_paths([f"git+{repo}@{commit}"], env=ENV)
    loaded.context.close()
    assert list(loaded.context.names) == ["plain.txt"]
    assert dict(loaded.skipped) == {
        "link": "link",
        "module": "submodule",
        "weights.bin": "Git LFS pointer: its content is not in the repository",
    }


def test_names_that_lead_out_of_the_repository_are_skipped(repo) -> None:
    inner = run(repo, "rev-parse", "HEAD^{tree}")
    packed = b"40000 ..\0" + bytes.fromhex(inner) + b"40000 .GIT\0" + bytes.fromhex(inner)
    made = run(repo, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", data=packed)
    commit = run(repo, "commit-tree", made, "-m", "odd")
    assert skipped(f"git+{repo}@{commit}") == {
        "../a.txt": "its name leads out of the repository",
        "../src/b.py": "its name leads out of the repository",
        ".GIT/a.txt": "inside a .git folder",
        ".GIT/src/b.py": "inside a .git folder",
    }


def test_a_tree_that_names_itself_ten_times_over_is_refused(repo, monkeypatch) -> None:
    """The git bomb: ten levels of ten are ten thousand million files."""
    made = run(repo, "rev-parse", "HEAD^{tree}")
    for _ in range(10):
        packed = b"".join(f"40000 {n}".encode() + b"\0" + bytes.fromhex(made) for n in range(10))
        made = run(repo, "hash-object", "-t", "tree", "-w", "--stdin", data=packed)
    commit = run(repo, "commit-tree", made, "-m", "bomb")
    monkeypatch.setattr(git, "MOST_FILES", 1000)
    with pytest.raises(ContextError, match="more than 1,000 files"):
        texts(f"git+{repo}@{commit}")


def test_a_huge_file_is_skipped_before_it_is_unpacked(repo, monkeypatch) -> None:
    monkeypatch.setattr(git, "MOST_BYTES", 5)
    assert skipped(f"git+{repo}") == {"a.txt": "over 5 bytes"}
    assert texts(f"git+{repo}@v1", choice=Choice(max_file_bytes=4)) == {"src/b.py": "code"}


def test_nothing_that_a_repository_sets_is_run(repo, tmp_path) -> None:
    """fsmonitor (CVE-2022-24765), aliases, pagers, filters, textconv, hooks, missing objects."""
    witness = tmp_path / "ran"
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {witness}\ncat\n")
    evil.chmod(evil.stat().st_mode | stat.S_IXUSR)
    commit = run(repo, "rev-parse", "HEAD")
    for name in (
        *("core.fsmonitor", "core.pager", "core.sshCommand", "core.gitProxy", "core.editor"),
        *("core.alternateRefsCommand", "core.askPass", "credential.helper", "diff.external"),
        *("filter.evil.smudge", "filter.evil.clean", "filter.evil.process", "diff.evil.textconv"),
        *("pager.ls-tree", "pager.cat-file", "uploadpack.packObjectsHook", "gpg.program"),
    ):
        run(repo, "config", name, str(evil))
    for name in ("rev-parse", "ls-tree", "cat-file"):
        run(repo, "config", f"alias.{name}", f"!{evil}")
    run(repo, "config", "core.hooksPath", str(tmp_path))
    run(repo, "config", "remote.origin.url", f"ext::{evil}")
    run(repo, "config", "remote.origin.promisor", "true")
    run(repo, "config", "protocol.ext.allow", "always")
    run(repo, "config", "extensions.partialClone", "origin")
    (repo / ".git" / "info" / "attributes").write_text("* filter=evil diff=evil\n")
    oid = run(repo, "rev-parse", f"{commit}:src/b.py")
    (repo / ".git" / "objects" / oid[:2] / oid[2:]).unlink()

    loaded = load_paths([f"git+{repo}@{commit}"], env=ENV)

    loaded.context.close()
    assert list(loaded.context.names) == ["a.txt"]
    assert loaded.skipped == [("src/b.py", "missing in the repository")]
    assert not witness.exists()


@pytest.mark.parametrize(
    ("revision", "said"),
    [
        ("--output=x", "'--output=x' is no revision"),
        ("absent", "there is no revision 'absent'"),
        ("v1:a.txt", "there is no revision 'v1:a.txt'"),
    ],
)
def test_what_is_no_revision_is_an_error_and_no_option(repo, revision, said) -> None:
    with pytest.raises(ContextError, match=said):
        texts(f"git+{repo}@{revision}")


def test_what_is_no_repository_is_an_error(tmp_path) -> None:
    with pytest.raises(ContextError, match="there is no such folder"):
        texts(f"git+{tmp_path}/absent")
    with pytest.raises(ContextError, match="not a git repository"):
        texts(f"git+{tmp_path}")
    with pytest.raises(ContextError, match="names no repository"):
        texts("git+@v1")


def test_without_git_the_error_says_so(repo, tmp_path) -> None:
    with pytest.raises(ContextError, match="git is not installed"):
        load_paths([f"git+{repo}"], env={"PATH": str(tmp_path)})


def test_a_repository_of_another_user_is_read_only_if_it_is_trusted(repo, tmp_path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    for path in (repo, repo / ".git"):
        os.chown(path, 12345, 12345)
    home = tmp_path / "home"
    home.mkdir()
    with pytest.raises(ContextError, match=r"safe\.directory"):
        load_paths([f"git+{repo}"], env=ENV | {"HOME": str(home)})
    (home / ".gitconfig").write_text(
        f"[safe]\n\tdirectory = {repo}\n[alias]\n\trev-parse = !false\n"
    )
    loaded = load_paths([f"git+{repo}"], env=ENV | {"HOME": str(home)})
    loaded.context.close()
    assert list(loaded.context.names) == ["a.txt", "src/b.py"]


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("git+.", (".", "HEAD")),
        ("git+a/b@v1", ("a/b", "v1")),
        ("git+https://host/repo.git", ("https://host/repo.git", "HEAD")),
        ("git+https://host/repo@feature/x", ("https://host/repo", "feature/x")),
        ("git+https://me:pw@host/repo@v1", ("https://me:pw@host/repo", "v1")),
        ("git+ssh://git@host/repo", ("ssh://git@host/repo", "HEAD")),
        ("git+file:///srv/repo@v1", ("/srv/repo", "v1")),
    ],
)
def test_place_and_revision_are_told_apart_as_pip_does(source, parts) -> None:
    assert repository(source) == parts


def test_what_lies_elsewhere_is_kept_for_resume_and_shown_without_its_password() -> None:
    assert must_be_kept(["git+https://host/repo@v1"])
    assert not must_be_kept(["git+.@v1", "a.txt"])
    assert without_secrets("git+https://me:pw@host/repo@v1") == "git+https://host/repo@v1"
    assert without_secrets("https://me:pw@host/x?y=1") == "https://host/x?y=1"


@pytest.mark.parametrize("kind", ["tag", "tree", "commit"])
def test_a_file_that_is_another_kind_of_object_forges_no_other_file(repo, kind) -> None:
    real = run(repo, "hash-object", "-w", "--stdin", data=b"true")
    forged = b"x blob 4\nfake\n" * 9
    evil = {
        "tag": lambda: raw(repo, "tag", forged),
        "tree": lambda: run(repo, "rev-parse", "HEAD^{tree}"),
        "commit": lambda: run(repo, "rev-parse", "HEAD"),
    }[kind]()
    entries = [("a", evil), ("b", real), ("c", real)]
    top = raw(
        repo, "tree", b"".join(b"100644 %s\0" % n.encode() + bytes.fromhex(o) for n, o in entries)
    )
    commit = run(repo, "commit-tree", top, "-m", "x")

    assert texts(f"git+{repo}@{commit}") == {"b": "true", "c": "true"}


def raw(folder: Path, kind: str, data: bytes) -> str:
    """Write an object that git itself would not."""
    whole = b"%s %d\0%s" % (kind.encode(), len(data), data)
    oid = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
    path = folder / ".git" / "objects" / oid[:2] / oid[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(zlib.compress(whole))
    return oid


def test_a_name_without_measure_is_skipped(repo, monkeypatch) -> None:
    monkeypatch.setattr(git, "MOST_NAME_CHARS", 5)

    assert skipped(f"git+{repo}@v1") == {"src/b.py…": "a name of 8 characters"}


def test_names_that_together_are_too_long_are_refused(repo, monkeypatch) -> None:
    monkeypatch.setattr(git, "MOST_NAMES_BYTES", 50)

    with pytest.raises(ContextError, match="names of more than"):
        texts(f"git+{repo}@v1")


def test_a_repository_that_makes_git_wait_for_ever_is_given_up(repo) -> None:
    (repo / ".git" / "config").unlink()
    os.mkfifo(repo / ".git" / "config")

    with pytest.raises(ContextError, match=r"git has said nothing for 0.1 s"):
        Git(str(repo), ENV, protocols="none").line("rev-parse", "HEAD", silence_s=0.1)


def test_git_ends_with_the_process_that_started_it(repo) -> None:
    code = """if True:
        import os, sys
        from abyme.contexts.git_process import Git
        held = Git(sys.argv[1], {"PATH": sys.argv[2]}, protocols="none")
        os.write(1, str(held.start("rev-parse", "HEAD")._process.pid).encode() + b"\\n")
        sys.stdin.read()
        """
    (repo / ".git" / "config").unlink()
    os.mkfifo(repo / ".git" / "config")
    with subprocess.Popen(
        [sys.executable, "-c", code, str(repo), ENV["PATH"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**ENV, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as host:
        assert host.stdout is not None
        pid = os.pidfd_open(int(host.stdout.readline()))
        writer = os.open(repo / ".git" / "config", os.O_WRONLY)  # once git waits there
        try:
            host.kill()
            ended, _, _ = select.select([pid], [], [], 20)
        finally:
            os.close(pid)
            os.close(writer)

    assert ended
