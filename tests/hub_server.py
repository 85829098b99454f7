"""Two servers on 127.0.0.1 for the tests: a small Hugging Face Hub, and a plain file server; both can misbehave.

The Hub speaks as much of the real one's protocol as the client of `huggingface_hub` needs to create repositories, to
upload (preupload, LFS, commits, tags) and to download (revisions, ETags, ranges), with tokens and private
repositories. As on the real one, large files come from another host, which wants no token.
"""

import base64
import hashlib
import json
import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from card_rules import card_errors

OWNER_TOKEN, STRANGER_TOKEN = "hf_owner", "hf_stranger"


@dataclass
class Fault:
    """What goes wrong with requests whose "METHOD /path" matches a pattern."""

    pattern: str
    status: int | None = None  # answer this instead
    headers: dict = field(default_factory=dict)
    delay: float = 0  # seconds before the answer
    cut_after: int | None = None  # bytes of the body after which the connection is closed
    rate: int | None = None  # bytes of the body per second
    flip: bool = False  # one bit of the body
    times: int | None = None  # how often; None is always


@dataclass
class Repository:
    """Commits are maps from paths to blobs; references are names of commits."""

    private: bool = False
    commits: dict = field(default_factory=dict)
    branches: dict = field(default_factory=dict)
    tags: dict = field(default_factory=dict)

    def resolve(self, revision):
        revision = self.branches.get(revision) or self.tags.get(revision) or revision
        return revision if revision in self.commits else None

    def commit(self, files):
        sha = hashlib.sha1(json.dumps([len(self.commits), files]).encode()).hexdigest()
        self.commits[sha] = files
        self.branches["main"] = sha
        return sha


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def handle(self):
        with suppress(ConnectionError, TimeoutError):
            super().handle()

    def _serve(self):
        self.body = self._read_body()
        self.route = unquote(urlsplit(self.path).path)
        self.server.log.append((self.command, self.route, self.headers.get("Range")))
        self.fault = self.server.next_fault(f"{self.command} {self.route}")
        if self.fault:
            time.sleep(self.fault.delay)
            if self.fault.status:
                return self.send(b"{}", self.fault.status, self.fault.headers)
        self.server.answer(self)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _read_body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def json(self):
        return json.loads(self.body)

    def send_json(self, value, status=200):
        self.send(json.dumps(value).encode(), status, {"Content-Type": "application/json"})

    def refuse(self, status, code="", message=""):
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self.send(b"{}", status, {key: value for key, value in headers.items() if value})

    def send_file(self, content, headers):
        """Sends bytes, or the range of them that was asked for."""
        headers = {"Accept-Ranges": "bytes", **headers}
        start = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not start:
            return self.send(content, 200, headers)
        first, last = int(start[1]), int(start[2] or len(content) - 1)
        if first >= len(content):
            return self.send(b"", 416, {"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self.send(content[first : last + 1], 206, headers)

    def send(self, content, status=200, headers=None):
        fault = self.fault or Fault("")
        if fault.flip and content:
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault.cut_after is not None:
            content = content[: fault.cut_after]
            self.close_connection = True
        step = max(1, fault.rate // 20) if fault.rate else max(1, len(content))
        for position in range(0, len(content), step):
            self.wfile.write(content[position : position + step])
            if fault.rate:
                self.wfile.flush()
                time.sleep(0.05)


class Server(ThreadingHTTPServer):
    """Runs in threads of its own while its context lasts. `log` has (method, path, Range) of every request."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.log, self.faults, self.lock = [], [], threading.Lock()
        self.port = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        pass  # clients that go away are part of the tests

    def fail(self, pattern, **what):
        """Makes requests fail from now on, and returns the log, emptied."""
        self.faults = [Fault(pattern, **what)]
        self.log.clear()
        return self.log

    def work(self):
        """Ends all faults, and returns the log, emptied."""
        self.faults = []
        self.log.clear()
        return self.log

    def next_fault(self, request):
        with self.lock:
            for fault in self.faults:
                if re.search(fault.pattern, request) and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None


class FileServer(Server):
    """Serves `files`, a dict of paths below the root to bytes or `Path`."""

    def __init__(self, files=(), port=0):
        super().__init__(port)
        self.files = dict(files)

    def answer(self, request):
        content = self.files.get(request.route.lstrip("/"))
        if content is None:
            return request.refuse(404)
        request.send_file(content.read_bytes() if isinstance(content, Path) else content, {})


class HubServer(Server):
    """A Hugging Face Hub. `tokens` says to which organisations' repositories a token gives access."""

    def __init__(self, port=0):
        super().__init__(port)
        self.repositories, self.blobs, self.large = {}, {}, set()
        self.tokens = {OWNER_TOKEN: {"org", "keras-regpose"}, STRANGER_TOKEN: {"elsewhere"}}

    def upload(self, repo_id, files, private=False):
        """Puts files {path: bytes} into a new commit without a request, and returns its name."""
        repository = self.repositories.setdefault(repo_id, Repository(private))
        known = repository.commits.get(repository.branches.get("main"), {})
        return repository.commit(known | {path: self.store(path, content) for path, content in files.items()})

    def store(self, path, content):
        large = path.endswith((".h5", ".png"))
        digest = hashlib.sha256(content) if large else hashlib.sha1(b"blob %d\0" % len(content) + content)
        if large:
            self.large.add(digest.hexdigest())
        self.blobs[digest.hexdigest()] = content
        return digest.hexdigest()

    def files(self, repo_id, revision="main"):
        """Returns {path: bytes} of a revision."""
        repository = self.repositories[repo_id]
        commit = repository.commits[repository.resolve(revision)]
        return {path: self.blobs[blob] for path, blob in commit.items()}

    def answer(self, request):
        routes = [
            (r"POST /api/repos/create", self._create),
            (r"POST /api/validate-yaml", self._validate_card),
            (r"(?:GET|HEAD) /cdn/(\w+)", self._cdn),
            (r"PUT /lfs/(\w+)", self._put_large),
            (r"POST /([^/]+/[^/]+)\.git/info/lfs/objects/batch", self._batch),
            (r"(?:GET|HEAD) /([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._file),
            (r"GET /api/models/([^/]+/[^/]+)/refs", self._refs),
            (r"GET /api/models/([^/]+/[^/]+)/tree/([^/]+)", self._tree),
            (r"GET /api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self._info),
            (r"POST /api/models/([^/]+/[^/]+)/preupload/([^/]+)", self._preupload),
            (r"POST /api/models/([^/]+/[^/]+)/commit/([^/]+)", self._commit),
            (r"POST /api/models/([^/]+/[^/]+)/tag/([^/]+)", self._tag),
        ]
        for pattern, answer in routes:
            match = re.fullmatch(pattern, f"{request.command} {request.route}")
            if match:
                return answer(request, *match.groups())
        request.refuse(404)

    # Who may do what

    def _namespaces(self, request):
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return self.tokens.get(token) if token else None

    def _readable(self, request, repo_id):
        repository, mine = self.repositories.get(repo_id), self._namespaces(request)
        if repository and (not repository.private or repo_id.split("/")[0] in (mine or ())):
            return repository
        if mine is None:  # the Hub does not tell strangers whether a repository exists
            request.refuse(401, message="Invalid username or password.")
        else:
            request.refuse(404, "RepoNotFound", "Repository not found")

    def _may_write(self, request, namespace):
        mine = self._namespaces(request)
        if mine is None:
            request.refuse(401, message="Invalid username or password.")
        elif namespace not in mine:
            request.refuse(403, message=f"You don't have the rights to write to {namespace}")
        return mine is not None and namespace in mine

    def _readable_commit(self, request, repo_id, revision):
        repository = self._readable(request, repo_id)
        if repository is None:
            return None, None
        commit = repository.resolve(revision or "main")
        if commit is None:
            request.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, commit

    # Reading

    def _info(self, request, repo_id, revision):
        repository, commit = self._readable_commit(request, repo_id, revision)
        if commit:
            files = [{"rfilename": path} for path in repository.commits[commit]]
            private = {"private": repository.private, "sha": commit, "siblings": files}
            request.send_json({"id": repo_id, "modelId": repo_id, "tags": [], "downloads": 0, "likes": 0, **private})

    def _refs(self, request, repo_id):
        repository = self._readable(request, repo_id)
        if repository:
            refs = {"converts": []}
            for kind, names in (("branches", repository.branches), ("tags", repository.tags)):
                refs[kind] = [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": c} for n, c in names.items()]
            request.send_json(refs)

    def _tree(self, request, repo_id, revision):
        repository, commit = self._readable_commit(request, repo_id, revision)
        if commit:
            entries = []
            for path, blob in repository.commits[commit].items():
                size = len(self.blobs[blob])
                entry = {"type": "file", "path": path, "size": size, "oid": blob[:40]}
                if blob in self.large:
                    entry["lfs"] = {"oid": blob, "size": size, "pointerSize": 130}
                entries.append(entry)
            request.send_json(entries)

    def _file(self, request, repo_id, revision, path):
        repository, commit = self._readable_commit(request, repo_id, revision)
        if not commit:
            return
        blob = repository.commits[commit].get(path)
        if blob is None:
            return request.refuse(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit, "ETag": f'"{blob}"'}
        if blob not in self.large:
            return request.send_file(self.blobs[blob], headers)
        headers |= {"X-Linked-Etag": f'"{blob}"', "X-Linked-Size": str(len(self.blobs[blob]))}
        # Another host by name, so that the client treats it as one.
        request.send(b"", 302, {**headers, "Location": f"http://localhost:{self.port}/cdn/{blob}"})

    def _cdn(self, request, blob):
        if request.headers.get("Authorization"):
            return request.refuse(400, message="Only one authentication mechanism is allowed")
        request.send_file(self.blobs[blob], {"ETag": f'"{blob}"'})

    # Writing

    def _validate_card(self, request):
        errors = [{"message": error} for error in card_errors(request.json()["content"])]
        request.send_json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def _create(self, request):
        wanted = request.json()
        namespace = wanted.get("organization") or "owner"
        repo_id = f"{namespace}/{wanted['name']}"
        if not self._may_write(request, namespace):
            return
        if repo_id in self.repositories:
            return request.refuse(409, message="You already created this model repo")
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.upload(repo_id, {".gitattributes": b"*.h5 filter=lfs\n"}, private)
        request.send_json({"url": f"{self.url}/{repo_id}", "name": repo_id, "id": repo_id})

    def _preupload(self, request, repo_id, revision):
        repository, commit = self._readable_commit(request, repo_id, revision)
        if not commit or not self._may_write(request, repo_id.split("/")[0]):
            return
        answers = []
        for file in request.json()["files"]:
            mode = "lfs" if file["path"].endswith((".h5", ".png")) else "regular"
            oid = repository.commits[commit].get(file["path"])
            answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        request.send_json({"files": answers})

    def _batch(self, request, repo_id):
        if not self._may_write(request, repo_id.split("/")[0]):
            return
        objects = []
        for item in request.json()["objects"]:
            known = item["oid"] in self.blobs
            action = {"upload": {"href": f"{self.url}/lfs/{item['oid']}", "header": {}}}
            objects.append(item if known else {**item, "actions": action})
        request.send_json({"transfer": "basic", "objects": objects})

    def _put_large(self, request, oid):
        if hashlib.sha256(request.body).hexdigest() != oid:
            return request.refuse(400, message="The content is not what its SHA-256 says")
        self.blobs[oid] = request.body
        self.large.add(oid)
        request.send(b"")

    def _commit(self, request, repo_id, revision):
        repository, commit = self._readable_commit(request, repo_id, revision)
        if not commit or not self._may_write(request, repo_id.split("/")[0]):
            return
        files = dict(repository.commits[commit])
        for line in request.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header" and value.get("parentCommit", commit) != commit:
                return request.refuse(412, message="A commit has happened since")
            elif item["key"] == "file":
                files[value["path"]] = self.store(value["path"], base64.b64decode(value["content"]))
            elif item["key"] == "lfsFile" and value["oid"] not in self.blobs:
                return request.refuse(400, message="LFS pointer pointed to a file that does not exist")
            elif item["key"] == "lfsFile":
                files[value["path"]] = value["oid"]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        sha = repository.commit(files)
        request.send_json({"success": True, "commitOid": sha, "commitUrl": f"{self.url}/{repo_id}/commit/{sha}"})

    def _tag(self, request, repo_id, revision):
        repository, commit = self._readable_commit(request, repo_id, revision)
        if not commit or not self._may_write(request, repo_id.split("/")[0]):
            return
        if request.json()["tag"] in repository.tags:
            return request.refuse(409, message="Tag reference exists already")
        repository.tags[request.json()["tag"]] = commit
        request.send(b"", 200)
