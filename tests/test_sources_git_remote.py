"""Contract: contexts/git. A repository on another host: one commit of it is fetched, by http."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from abyme.contexts.load import load_paths
from abyme.contexts.walk import Walk
from abyme.errors import ContextError

GIT = shutil.which("git")
ENV = {"PATH": os.environ.get("PATH", os.defpath)}
WHO = {
    **{f"GIT_{who}_NAME": "A" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "a@example.org" for who in ("AUTHOR", "COMMITTER")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


def run(folder: Path, *args: str) -> str:
    command = [GIT or "git", "-C", folder, *args]
    done = subprocess.run(command, env=ENV | WHO, capture_output=True, check=True)
    return done.stdout.decode().strip()


BACKEND = Path(run(Path("/"), "--exec-path")) / "git-http-backend" if GIT else Path("absent")
pytestmark = pytest.mark.skipif(not BACKEND.exists(), reason="git-http-backend is not installed")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    run(folder, "init", "-q", "-b", "main")
    for text in ("first", "second", "third"):
        (folder / "a.txt").write_text(text)
        run(folder, "add", ".")
        run(folder, "commit", "-q", "-m", text)
        run(folder, "tag", "-a", "-m", text, text)
    run(folder, "branch", "feature/x", "first")
    run(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
    return folder


@pytest.fixture
def url(repo: Path) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            size = int(self.headers.get("Content-Length") or 0)
            cgi = {
                "GIT_PROJECT_ROOT": str(repo.parent),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type") or "",
                "CONTENT_LENGTH": str(size),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol") or "",
            }
            body = self.rfile.read(size)
            done = subprocess.run(
                [BACKEND], input=body, env=ENV | WHO | cgi, capture_output=True, check=False
            )
            head, _, data = done.stdout.partition(b"\r\n\r\n")
            lines = [line.split(": ", 1) for line in head.decode().split("\r\n")]
            status = next((value for name, value in lines if name == "Status"), "200")
            self.send_response(int(status.split()[0]))
            for name, value in lines:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET  # noqa: N815 - the name that http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/repo"
    server.shutdown()
    server.server_close()


def text(source: str) -> str:
    loaded = load_paths([source], env=ENV)
    with closing(loaded.context) as context:
        assert list(context.names) == ["a.txt"]
        return context.text(0)


def test_branches_tags_and_commits_of_another_host_are_read(url, repo) -> None:
    commit = run(repo, "rev-parse", "second^{commit}")
    assert text(f"git+{url}") == "third"
    assert text(f"git+{url}@feature/x") == "first"
    assert text(f"git+{url}@first") == "first"
    assert text(f"git+{url}@{commit}") == "second"


def test_the_copy_is_one_commit_deep_and_gone_in_the_end(url, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with closing(Walk([f"git+{url}"], env=ENV)) as walk:
        [copy] = tmp_path.glob("abyme-git-*")
        assert run(copy, "rev-list", "--count", "FETCH_HEAD") == "1"
        assert list((copy / "hooks").glob("*")) == []
        assert len(walk.found) == 1
    assert not copy.exists()


@pytest.mark.parametrize(
    ("revision", "said"),
    [
        ("absent", "couldn't find remote ref absent"),
        ("HEAD~1", "a branch, a tag or a whole hash"),
        ("+refs/heads/main:refs/heads/evil", "a branch, a tag or a whole hash"),
        ("--upload-pack=touch", "is no revision"),
    ],
)
def test_what_is_no_revision_there_is_an_error(url, revision, said) -> None:
    with pytest.raises(ContextError, match=said):
        text(f"git+{url}@{revision}")


def test_a_host_without_the_repository_is_an_error_without_the_password(url) -> None:
    there = url.replace("//", "//me:secret@").replace("/repo", "/absent")
    with pytest.raises(ContextError) as raised:
        text(f"git+{there}")
    assert str(raised.value).startswith("cannot read git+http://127.0.0.1:")
    assert "secret" not in str(raised.value)
