#!/usr/bin/env python3
"""GitHub's Actions cache for tests, with the rules of the real one; both service versions and the list of keys.

  github_cache.py [PORT]     prints its URL, then serves on loopback until it is killed

Rules: a token (a signed JWT) reads its scopes in their order and writes to the last one that it may write to. A key,
once reserved, is taken for ever, committed or not. Lookups find a key itself first, then the newest one that begins so,
scope by scope. Bytes go to reserved entries only, and are there once as many are committed as were sent. Version 1 takes
them in chunks, version 2 as blocks of a blob at a signed URL, which must come without the token. Too many requests, or
too large an entry, are refused.

/control is for the test: token (GET ?scope=NAME:PERMISSION&life=SECONDS), reset, set, reserve, evict (POST, JSON), state (GET).
"""
import base64
import hashlib
import hmac
import json
import re
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = b"the service's own"
GITHUB_TOKEN = "ghp_reader"
CHUNK_MAX = 32 << 20
KEY_MAX = 512
READ, WRITE = 1, 2
V1 = "/_apis/artifactcache/"
V2 = "/twirp/github.actions.results.api.v1.CacheService/"


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(text):
    return base64url(hmac.new(SECRET, text.encode(), hashlib.sha256).digest())


class Refused(Exception):
    """An answer other than success; version 2 has words of its own for it."""

    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Entry:
    def __init__(self, id, scope, key, version):
        self.id, self.scope, self.key, self.version = id, scope, key, version
        self.committed, self.data, self.chunks, self.blocks = False, None, {}, {}


class Service:
    def __init__(self):
        self.lock = threading.RLock()
        self.url = ""
        self.reset()

    def reset(self):
        self.entries, self.ids = [], 0
        self.log = []
        self.problems = []
        self.set(limited=0, retry_after=None, busy=0, entry_max=10 << 30, url_life=3600, cut_downloads=0, expired_urls=0)

    def set(self, **values):
        for name, value in values.items():
            setattr(self, name, value)

    # Who may what.

    def token(self, scopes, life, begins):
        now = int(time.time())
        head = base64url(json.dumps({"typ": "JWT", "alg": "HS256"}).encode())
        access = [{"Scope": name, "Permission": int(permission)} for name, permission in scopes]
        claims = {"ac": json.dumps(access), "nbf": now + begins, "exp": now + life, "iss": "vstoken.actions.localhost"}
        text = head + "." + base64url(json.dumps(claims).encode())
        return text + "." + sign(text)

    def scopes_of(self, headers):
        text = headers.get("Authorization", "")
        parts = text.removeprefix("Bearer ").split(".")
        if not text.startswith("Bearer ") or len(parts) != 3 or sign(".".join(parts[:2])) != parts[2]:
            raise Refused(401, "unauthenticated", "the token is not ours")
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=="))
        if claims["exp"] < time.time():
            raise Refused(401, "unauthenticated", "the token has expired")
        return [(s["Scope"], s["Permission"]) for s in json.loads(claims["ac"])]

    def written(self, scopes):
        own = [name for name, permission in scopes if permission & WRITE]
        if not own:
            raise Refused(403, "permission_denied", "the token is read only")
        return own[-1]

    # Entries.

    def find(self, scopes, version, exact, prefixes):
        for scope, permission in scopes:
            if not permission & READ:
                continue
            there = [e for e in self.entries if e.committed and e.scope == scope and e.version == version]
            for key in exact:
                for e in there:
                    if e.key == key:
                        return e
            for prefix in prefixes:
                for e in reversed(there):
                    if e.key.startswith(prefix):
                        return e
        return None

    def reserve(self, scope, key, version):
        if not key or len(key) > KEY_MAX or "," in key:
            raise Refused(400, "invalid_argument", "the key is empty, longer than 512 characters, or has a comma")
        if any(e.scope == scope and e.key == key and e.version == version for e in self.entries):
            raise Refused(409, "already_exists", "Cache already exists. Scope: %s, Key: %s" % (scope, key))
        self.ids += 1
        e = Entry(self.ids, scope, key, version)
        self.entries.append(e)
        return e

    def commit(self, e, size):
        if e.committed:
            raise Refused(409, "already_exists", "the entry is committed")
        if e.chunks:
            data, at = b"", 0
            for begin in sorted(e.chunks):
                if begin != at:
                    raise Refused(400, "invalid_argument", "bytes %d to %d were not sent" % (at, begin))
                data += e.chunks[begin]
                at += len(e.chunks[begin])
            e.data = data
        if e.data is None or len(e.data) != size:
            raise Refused(400, "invalid_argument", "%s bytes were sent, not %d" % (e.data and len(e.data), size))
        if size > self.entry_max:
            raise Refused(400, "invalid_argument", "the entry is larger than %d bytes" % self.entry_max)
        e.committed = True
        e.chunks, e.blocks = {}, {}

    def by_id(self, id, scopes):
        for e in self.entries:
            if str(e.id) == str(id) and e.scope == self.written(scopes):
                return e
        raise Refused(404, "not_found", "no such entry")

    def blob_url(self, e, permission):
        end = int(time.time() + self.url_life)
        if permission == "r" and self.expired_urls > 0:
            self.expired_urls -= 1
            end = int(time.time()) - 1
        what = "/blob/%d?se=%d&sp=%s" % (e.id, end, permission)
        return self.url + what + "&sig=" + sign(what)

    def state(self):
        shown = [dict(id=e.id, scope=e.scope, key=e.key, version=e.version, committed=e.committed,
                      size=len(e.data) if e.data is not None else None,
                      text=e.data.decode(errors="replace") if e.data is not None and len(e.data) < 1 << 16 else None)
                 for e in self.entries]
        return dict(entries=shown, log=self.log, problems=self.problems)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service = None

    def log_message(self, *_):
        pass

    def answer(self, *reply, **more):
        """What is sent once the service is free for others again."""
        self.reply = lambda: self.send(*reply, **more)

    def send(self, status, body=b"", headers=(), only=None):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-ms-request-id", "1")
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:only])
        if only is not None:
            self.close_connection = True

    def read_body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def dispatch(self):
        address = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(address.query, keep_blank_values=True))
        self.body = self.read_body()
        with self.service.lock:
            try:
                self.route(address.path)
            except Refused as r:
                if address.path.startswith(V2):
                    self.answer(r.status, {"code": r.code, "msg": r.message})
                else:
                    kind = "ArtifactCacheItemAlreadyExistsException" if r.code == "already_exists" else "Exception"
                    self.answer(r.status, {"$id": "1", "message": r.message, "typeName": "GitHub." + kind,
                                           "typeKey": kind, "errorCode": 0})
        self.reply()

    def route(self, path):
        s = self.service
        if path.startswith("/control/"):
            return self.control(path.removeprefix("/control/"))
        s.log.append(dict(method=self.command, path=path, query=self.query, at=time.time(), size=len(self.body),
                          range=self.headers.get("Range") or self.headers.get("Content-Range") or ""))
        if path.startswith("/blob/"):
            return self.blob(path)
        if s.limited > 0:
            s.limited -= 1
            waits = [] if s.retry_after is None else [("Retry-After", str(s.retry_after))]
            return self.answer(429, {"message": "too many requests"}, waits)
        if path.startswith("/repos/"):
            return self.keys(path)
        scopes = s.scopes_of(self.headers)
        if path.startswith(V1):
            return self.version1(path.removeprefix(V1), scopes)
        if path.startswith(V2):
            return self.version2(path.removeprefix(V2), scopes)
        raise Refused(404, "bad_route", "no such route")

    do_GET = do_PUT = do_POST = do_PATCH = do_HEAD = dispatch

    def version1(self, what, scopes):
        s = self.service
        if "api-version=6.0-preview.1" not in self.headers.get("Accept", ""):
            s.problems.append("no api-version for " + what)
        if what == "cache" and self.command == "GET":
            keys = self.query["keys"].split(",")
            e = s.find(scopes, self.query["version"], keys, keys)
            if not e:
                return self.answer(204)
            return self.answer(200, {"cacheKey": e.key, "scope": e.scope, "archiveLocation": s.blob_url(e, "r")})
        if what == "caches" and self.command == "POST":
            asked = json.loads(self.body)
            e = s.reserve(s.written(scopes), asked["key"], asked["version"])
            return self.answer(201, {"cacheId": e.id})
        e = s.by_id(what.removeprefix("caches/"), scopes)
        if self.command == "PATCH":
            begin, end = map(int, re.fullmatch(r"bytes (\d+)-(\d+)/\*", self.headers["Content-Range"]).groups())
            if e.committed:
                raise Refused(409, "already_exists", "the entry is committed")
            if len(self.body) != end - begin + 1 or len(self.body) > CHUNK_MAX:
                raise Refused(400, "invalid_argument", "the chunk is too large or not as its range says")
            e.chunks[begin] = self.body
            return self.answer(204)
        if self.command == "POST":
            s.commit(e, json.loads(self.body)["size"])
            return self.answer(204)
        raise Refused(405, "bad_route", "no such method")

    def version2(self, what, scopes):
        s = self.service
        if self.command != "POST" or self.headers.get("Content-Type") != "application/json":
            raise Refused(404, "bad_route", "POST of JSON only")
        asked = json.loads(self.body)
        if what == "CreateCacheEntry":
            e = s.reserve(s.written(scopes), asked["key"], asked["version"])
            return self.answer(200, {"ok": True, "signed_upload_url": s.blob_url(e, "cw")})
        if what == "FinalizeCacheEntryUpload":
            own = s.written(scopes)
            for e in s.entries:
                if (e.scope, e.key, e.version) == (own, asked["key"], asked["version"]):
                    s.commit(e, int(asked["size_bytes"]))
                    return self.answer(200, {"ok": True, "entry_id": str(e.id)})
            raise Refused(404, "not_found", "no such entry")
        if what == "GetCacheEntryDownloadURL":
            e = s.find(scopes, asked["version"], [asked["key"]], asked.get("restore_keys") or [])
            if not e:
                return self.answer(200, {"ok": False})
            return self.answer(200, {"ok": True, "signed_download_url": s.blob_url(e, "r"), "matched_key": e.key})
        raise Refused(404, "bad_route", "no such call")

    def blob(self, path):
        """What Azure does with a blob at a URL with a shared access signature."""
        s = self.service
        if "Authorization" in self.headers:
            s.problems.append("the token was sent to " + path)
        q = self.query
        signed = "%s?se=%s&sp=%s" % (path, q.get("se"), q.get("sp"))
        e = next((e for e in s.entries if path == "/blob/%d" % e.id), None)
        writing = self.command == "PUT"
        good = q.get("sig") == sign(signed) and int(q["se"]) >= time.time() and writing == (q["sp"] == "cw")
        if not e or not good or (writing and e.committed):
            return self.answer(403, b"<Error><Code>AuthenticationFailed</Code><Message>no</Message></Error>",
                               [("x-ms-error-code", "AuthenticationFailed")])
        if s.busy > 0:
            s.busy -= 1
            return self.answer(503, b"<Error><Code>ServerBusy</Code></Error>",
                               [("x-ms-error-code", "ServerBusy"), ("Retry-After", "1")])
        if writing:
            if q.get("comp") == "block":
                e.blocks[q["blockid"]] = self.body
            elif q.get("comp") == "blocklist":
                ids = re.findall(r"<(?:Latest|Uncommitted)>([^<]*)</", self.body.decode())
                if any(id not in e.blocks for id in ids):
                    return self.answer(400, b"<Error><Code>InvalidBlockList</Code></Error>")
                e.data = b"".join(e.blocks[id] for id in ids)
            elif self.headers.get("x-ms-blob-type") == "BlockBlob":
                e.data = self.body
            else:
                return self.answer(400, b"<Error><Code>MissingRequiredHeader</Code></Error>")
            return self.answer(201)
        size = len(e.data)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("x-ms-range") or self.headers.get("Range") or "")
        begin, end = (int(asked[1]), min(int(asked[2] or size), size - 1) + 1) if asked else (0, size)
        if asked and begin >= size:
            return self.answer(416)
        part = e.data[begin:end]
        headers = [("Content-Range", "bytes %d-%d/%d" % (begin, end - 1, size))] if asked else []
        only = None
        if s.cut_downloads > 0:
            s.cut_downloads -= 1
            only = len(part) // 2
        return self.answer(206 if asked else 200, part, headers, only)

    def keys(self, path):
        """GitHub's REST API: the caches of a repository."""
        s = self.service
        if self.headers.get("Authorization") != "Bearer " + GITHUB_TOKEN:
            return self.answer(401, {"message": "Bad credentials"})
        if not re.fullmatch("/repos/owner/name/actions/caches", path):
            return self.answer(404, {"message": "Not Found"})
        found = [e for e in s.entries if e.committed and e.key.startswith(self.query.get("key", ""))
                 and self.query.get("ref") in (None, e.scope)]
        size = min(int(self.query.get("per_page", 30)), 100)
        begin = (int(self.query.get("page", 1)) - 1) * size
        return self.answer(200, {"total_count": len(found), "actions_caches": [
            {"id": e.id, "ref": e.scope, "key": e.key, "version": e.version, "size_in_bytes": len(e.data)}
            for e in found[begin:begin + size]]})

    def control(self, what):
        s = self.service
        if what == "token":
            scopes = [text.rsplit(":", 1) for text in urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)["scope"]]
            token = s.token(scopes, int(self.query.get("life", 3600)), int(self.query.get("begins", -60)))
            return self.answer(200, token.encode())
        if what == "state":
            return self.answer(200, s.state())
        asked = json.loads(self.body)
        if what == "reset":
            s.reset()
        elif what == "set":
            s.set(**asked)
        elif what == "reserve":
            e = s.reserve(asked["scope"], asked["key"], asked["version"])
            if "data" in asked:
                e.data = asked["data"].encode()
                s.commit(e, len(e.data))
        elif what == "evict":
            s.entries = [e for e in s.entries if not e.key.startswith(asked["key"])]
        return self.answer(200)


class Server(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True


if __name__ == "__main__":
    Handler.service = Service()
    server = Server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Handler)
    Handler.service.url = "http://127.0.0.1:%d" % server.server_port
    print(Handler.service.url, flush=True)
    server.serve_forever()
