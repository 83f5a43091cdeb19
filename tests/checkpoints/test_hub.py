"""Names on the hub, against a small server that answers as the hub does."""

import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest

from mdl.checkpoints import hub, huggingface, load

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SCRIPT = """
import json, sys
from mdl.checkpoints import checkpoint, hub
answers = []
for source, stage in json.loads(sys.argv[1]):
    try:
        found = checkpoint.find(source, stage)
        files = sorted(path.name for path in hub.fetch(source, stage != "random").iterdir())
        answers.append([found.name, found.stage, files])
    except ValueError as error:
        answers.append(str(error))
print(json.dumps(answers))
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """One repository, `owner/stories`, with the revisions main and stage1-step-3440000."""

    files: dict[str, bytes] = {}
    requested: list[str] = []

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, body):
        path = self.path.split("?")[0]
        type(self).requested.append(path)
        content, headers, status = b"", {}, 404
        if path.startswith("/api/models/owner/stories"):
            if path.endswith(f"/tree/{COMMIT}"):
                entries = [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in self.files.items()
                ]
                self.send(200, {"Content-Type": "application/json"}, json.dumps(entries).encode(), body)
                return
            revision = path.removeprefix("/api/models/owner/stories").removeprefix("/revision/")
            if revision in ("", "main", "stage1-step-3440000", COMMIT):
                siblings = [{"rfilename": name, "size": len(data)} for name, data in self.files.items()]
                content, status = json.dumps({"id": "owner/stories", "sha": COMMIT, "siblings": siblings}).encode(), 200
            else:
                headers = {"X-Error-Code": "RevisionNotFound"}
        elif path.startswith(f"/owner/stories/resolve/{COMMIT}/"):
            content, status = self.files[path.rsplit("/", 1)[1]], 200
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        else:
            headers = {"X-Error-Code": "RepoNotFound"}
        self.send(status, headers, content, body)

    def send(self, status, headers, content, body):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


def find(home, endpoint, *sources):
    environment = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, "PYTHONPATH": str(ROOT)}
    environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_ETAG_TIMEOUT": "30"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(sources)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_names_and_revisions_are_fetched_and_what_fails_says_what_to_do(tmp_path):
    ours = load("stories260k")
    huggingface.save(tmp_path / "stories", ours.config, ours.params, ours.tokenizer)
    Hub.files = {file.name: file.read_bytes() for file in (tmp_path / "stories").iterdir()}
    Hub.files |= {"pytorch_model.bin": b"pickled", "consolidated.safetensors": b"another layout", "README.md": b"#"}
    Hub.requested = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    wanted = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    try:
        random, revision, absent, unknown = find(
            tmp_path / "home", endpoint,
            ("owner/stories", "random"), ("owner/stories@stage1-step-3440000", "pretrained"),
            ("owner/nothing", None), ("owner/stories@stage9", None),
        )  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()
    assert random == ["stories-random", "random", [name for name in wanted if name != "model.safetensors"]]
    assert revision == ["stories@stage1-step-3440000", "pretrained", wanted]
    assert not any(name in path for path in Hub.requested for name in ("pytorch_model", "consolidated", "README"))
    assert "owner/nothing: no such name on the hub" in absent
    assert "give its local directory" in absent
    assert "owner/stories@stage9: no revision 'stage9'" in unknown
    # The server is gone: what was fetched is still there, and the rest is an error with a remedy.
    cached, unreachable = find(
        tmp_path / "home", endpoint, ("owner/stories@stage1-step-3440000", None), ("owner/other@main", None)
    )
    assert cached == ["stories@stage1-step-3440000", "pretrained", wanted]
    assert "owner/other@main: the hub cannot be reached" in unreachable
    assert "give its local directory" in unreachable


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("HuggingFaceTB/SmolLM3-3B-checkpoints@stage1-step-3440000", True),
        ("allenai/OLMo-2-0425-1B", True),
        ("owner/name@refs/pr/1", True),
        ("gpt2", False),
        ("./here/there", False),
        ("a/b/c", False),
        ("owner/name@", False),
        ("/absolute/path", False),
    ],
)
def test_what_has_the_form_of_a_name(source, expected):
    assert hub.is_name(source) == expected


def test_several_revisions_are_a_source_each():
    assert hub.revisions("owner/name@r1,step-2,refs/pr/3") == [
        "owner/name@r1",
        "owner/name@step-2",
        "owner/name@refs/pr/3",
    ]
    for source in ("owner/name@r1", "owner/name", "stories260k", "/some/where,else@x,y", "a,b.gguf"):
        assert hub.revisions(source) == [source]
    for source in ("owner/name@r1,", "owner/name@,r1", "owner/name@r1,r1", "owner/name@r 1,r2"):
        with pytest.raises(ValueError, match="owner/name@r1,r2"):
            hub.revisions(source)
    assert hub.revision("owner/name@r1", pathlib.Path("x/snapshots/0123")) == "r1"
    assert hub.revision("owner/name", pathlib.Path("x/snapshots/0123")) == "0123"
