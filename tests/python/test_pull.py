"""`cairn pull` from a hub on the loopback: whole, cut, wrong and hostile answers.

    CAIRN=build/release/cairn pytest tests/python/test_pull.py
"""

import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import threading

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
CAIRN = pathlib.Path(os.environ.get("CAIRN", ROOT / "build" / "release" / "cairn"))
if not CAIRN.exists():
    pytest.skip(f"no program at {CAIRN}: build it or set CAIRN", allow_module_level=True)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """A server with the layout of a hub. `files` by path; faults are switched on by tests."""

    def __init__(self):
        self.files = {
            "config.json": b'{"a": 1}\n',
            "model.safetensors": bytes(range(256)) * 3000,
            "onnx/model.onnx": b"of another program",
            ".gitattributes": b"x",
        }
        self.listing = None  # replaces the answer
        self.cut_after = {}  # path -> bytes after which connections break, once each
        self.ranges = True
        self.change = {}  # path -> what is sent instead
        self.redirects = 0
        self.seen = []  # (path, Range, Authorization)
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                hub.answer(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def listing_of_files(self):
        siblings = []
        for path, data in self.files.items():
            entry = {"rfilename": path, "size": len(data)}
            if path.endswith((".safetensors", ".gguf")):
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            else:
                entry["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            siblings.append(entry)
        return {"sha": COMMIT, "siblings": siblings}

    def answer(self, request):
        self.seen.append((request.path, request.headers["Range"], request.headers["Authorization"]))
        if request.path.startswith("/api/models/org/name/revision/main"):
            body = json.dumps(self.listing or self.listing_of_files()).encode()
            return self.send(request, 200, body)
        path = request.path.removeprefix(f"/org/name/resolve/{COMMIT}/")
        if path == request.path or path not in self.files:
            return self.send(request, 404, b"not here")
        if self.redirects > 0:
            self.redirects -= 1
            request.send_response(302)
            request.send_header("Location", request.path)
            request.send_header("Content-Length", "0")
            return request.end_headers()
        body, status, more = self.change.get(path, self.files[path]), 200, {}
        if self.ranges and request.headers["Range"]:
            begin = int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
            more["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
            body, status = body[begin:], 206
        cut = self.cut_after.get(path, [])
        return self.send(request, status, body, cut.pop(0) if cut else None, more)

    def send(self, request, status, body, cut=None, more=None):
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        for name, value in (more or {}).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body if cut is None else body[:cut])
        request.close_connection = True


@pytest.fixture
def hub():
    hub = Hub()
    yield hub
    hub.server.shutdown()


def pull(hub, *arguments, code=0, store=None, name="org/name"):
    environment = {**os.environ, "CAIRN_HUB": hub.address, "HF_TOKEN": "secret"}
    if store is not None:
        environment["CAIRN_MODELS"] = str(store)
    done = subprocess.run([CAIRN, "pull", name, *map(str, arguments)], capture_output=True,
                          timeout=60, check=False, env=environment)
    assert done.returncode == code, done.stderr.decode()
    return done.stdout.decode() if code == 0 else done.stderr.decode()


def test_a_folder_comes_whole_and_is_kept(hub, tmp_path):
    out = tmp_path / "model"
    assert pull(hub, "--out", out).strip() == str(out)
    assert (out / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert (out / "config.json").read_bytes() == hub.files["config.json"]
    assert not (out / "onnx").exists() and not (out / ".gitattributes").exists()
    assert {token for _, _, token in hub.seen} == {"Bearer secret"}
    again = json.loads(pull(hub, "--out", out, "--json"))
    assert again["fetched_files"] == 0
    (out / "config.json").write_text("damaged")
    assert json.loads(pull(hub, "--out", out, "--json"))["fetched_files"] == 1


def test_the_store_knows_its_models_without_the_hub(hub, tmp_path):
    assert pull(hub, store=tmp_path).strip() == str(tmp_path / "org" / "name")
    hub.server.shutdown()
    assert pull(hub, "--offline", store=tmp_path).strip() == str(tmp_path / "org" / "name")
    (tmp_path / "org" / "name" / "config.json").unlink()
    assert "config.json" in pull(hub, "--offline", store=tmp_path, code=3)
    assert "pulled before" in pull(hub, "--offline", store=tmp_path / "other", code=3)


@pytest.mark.parametrize("ranges", [True, False])
def test_broken_connections_go_on(hub, tmp_path, ranges):
    hub.ranges = ranges
    hub.cut_after["model.safetensors"] = [100_000, 5]
    pull(hub, "--out", tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    asked = [r for path, r, _ in hub.seen if path.endswith("model.safetensors")]
    assert asked[:2] == [None, "bytes=100000-"] and len(asked) == 3


def test_giving_up_keeps_what_came_and_the_next_command_goes_on(hub, tmp_path):
    hub.cut_after["model.safetensors"] = [4000]
    error = pull(hub, "--out", tmp_path, "--attempts", "1", code=1)
    assert "model.safetensors" in error and "goes on" in error
    assert not (tmp_path / "model.safetensors").exists()
    assert json.loads(pull(hub, "--out", tmp_path, "--json"))["fetched_bytes"] == 768_000 - 4000


def test_a_wrong_checksum_is_never_kept(hub, tmp_path):
    wrong = bytearray(hub.files["model.safetensors"])
    wrong[5] ^= 1
    hub.change["model.safetensors"] = bytes(wrong)
    assert "checksum" in pull(hub, "--out", tmp_path, code=3)
    assert not (tmp_path / "model.safetensors").exists()
    hub.change["model.safetensors"] = hub.files["model.safetensors"] + b"more"
    assert "more" in pull(hub, "--out", tmp_path, code=3)


@pytest.mark.parametrize("path", ["../evil.safetensors", "/etc/evil.safetensors", "a/../../b.json",
                                  "a\\b.json", "", "a//b.json", "a\nb.json"])
def test_paths_outside_the_folder_are_refused(hub, tmp_path, path):
    listing = hub.listing_of_files()
    listing["siblings"].append({"rfilename": path, "size": 1})
    hub.listing = listing
    assert "siblings" in pull(hub, "--out", tmp_path / "in", code=3)
    assert list(tmp_path.iterdir()) == []


def test_redirections_are_followed_and_limited(hub, tmp_path):
    hub.redirects = 3
    pull(hub, "--out", tmp_path / "a")
    hub.redirects = 1000
    assert "config.json" in pull(hub, "--out", tmp_path / "b", "--attempts", "1", code=1)


def test_gguf_files_are_chosen_by_name(hub, tmp_path):
    hub.files = {"m.Q4_0.gguf": b"four", "m.Q8_0.gguf": b"eight", "README.md": b""}
    error = pull(hub, "--out", tmp_path, code=2)
    assert "m.Q4_0.gguf, m.Q8_0.gguf" in error
    assert pull(hub, "--out", tmp_path, name="org/name:q8_0").strip() == str(tmp_path / "m.Q8_0.gguf")
    assert pull(hub, "--out", tmp_path, "--file", "*Q4*").strip() == str(tmp_path / "m.Q4_0.gguf")


def test_names_and_hubs_are_checked(hub, tmp_path):
    for name in ("../x", "a/b/c", "a b", "/etc/passwd"):
        pull(hub, name=name, code=2)
    assert "status 404" in pull(hub, name="org/none", code=1)
    pull(hub, "--hub", "file:///etc", code=2)
