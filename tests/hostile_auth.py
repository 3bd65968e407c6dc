"""Auth services that should not be believed, for tests/auth_http: what each does is told by the path it is asked for.

    hostile_auth.py DIRECTORY

makes its certificates in DIRECTORY with the openssl command (the tests trust ca.pem), listens on free ports of
127.0.0.1, and prints them as one JSON object: {"plain": 40001, "tls": 40002, …}. It ends with its standard input.
"""

import gzip
import itertools
import json
import os
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

YES = b'{"user_id":"alice"}'
JSON = "Content-Type: application/json"


def answer(body=YES, *headers, status="200 OK", length=None):
    """A whole answer; `length` lies about its body. With headers given, they are the only ones."""
    lines = [f"HTTP/1.1 {status}", *(headers or [JSON])]
    if length != "none":
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def yes_with(**members):
    return answer(json.dumps({"user_id": "alice", **members}).encode())


def chunked(chunks):
    yield f"HTTP/1.1 200 OK\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    for chunk in chunks:
        yield b"%x\r\n%s\r\n" % (len(chunk), chunk)
    yield b"0\r\n\r\n"


def slowly(data, seconds=1):
    for byte in data:
        yield bytes([byte])
        time.sleep(seconds)


def hang(_head):
    time.sleep(60)
    return []


def redirect(status):
    return answer(b"", "Location: /yes", status=status)


def status(line):
    """An answer that would be a yes, were it not for its status."""
    return answer(status=line)


def continue_forever(_head):
    while True:
        yield b"HTTP/1.1 100 Continue\r\n\r\n"
        time.sleep(0.01)


def strict(head):
    """A yes for exactly what a key's check should send, and nothing else."""
    lines = head.decode().split("\r\n")
    names = sorted(line.split(":")[0].lower() for line in lines[1:] if line)
    plain = names == ["accept", "authorization", "connection", "host", "user-agent"]
    return answer() if plain and lines[0] == "GET /strict HTTP/1.1" else answer(status="400 " + ",".join(names))


def echo_everywhere(head):
    """The key in every place of an answer that someone might quote."""
    key = head.decode().split("Bearer ")[1].split("\r\n")[0]
    return answer(f'{{"{key}":"{key}",}}'.encode(), JSON, f"X-{key}: {key}", status=f"500 {key}")


def kept_open(_head):
    """A yes that names its connection, which every thread serves one of."""
    return answer(json.dumps({"user_id": threading.current_thread().name}).encode())


MIB = b" " * (1 << 20)
PATHS = {
    "yes": lambda _: answer(),
    "strict": strict,
    "kept-open": kept_open,
    "set-cookie": lambda _: answer(YES, JSON, "Set-Cookie: session=1; Path=/"),
    "parameters": lambda _: answer(YES, "content-type: Application/JSON ; charset=UTF-8"),
    "until-close": lambda _: answer(length="none"),
    "chunked": lambda _: chunked([YES[:5], YES[5:]]),
    "continue": lambda _: b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + answer(),
    "expires-60": lambda _: yes_with(expires_in=60),
    "expires-huge": lambda _: yes_with(expires_in=10**30),
    "just-64-kib": lambda _: answer(YES + b" " * ((64 << 10) - len(YES))),
    "refused-401": lambda _: status("401 Unauthorized"),
    "refused-403": lambda _: status("403 Forbidden"),
    "refused-endless": lambda _: itertools.chain([b"HTTP/1.1 401 No\r\n\r\n"], itertools.repeat(MIB)),
    # Time.
    "hang": hang,
    "trickle-headers": lambda _: slowly(answer()),
    "trickle-body": lambda _: itertools.chain([answer(b"", length=99)], slowly(b" " * 99)),
    "trickle-chunks": lambda _: chunked(slowly(b" " * 99)),
    "continue-forever": continue_forever,
    "continue-flood": lambda _: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 4000),
    # Size.
    "10-gib": lambda _: chunked(itertools.repeat(MIB, 10 << 10)),
    "10-gib-until-close": lambda _: itertools.chain([answer(b"", length="none")], itertools.repeat(MIB, 10 << 10)),
    "over-64-kib": lambda _: answer(YES + b" " * ((64 << 10) - len(YES) + 1)),
    "huge-header": lambda _: answer(YES, JSON, "X-Huge: " + "x" * (8 << 20)),
    "many-headers": lambda _: answer(YES, JSON, *(f"X-{n}: x" for n in range(20_000))),
    "endless-headers": lambda _: itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(b"X: x\r\n" * 10_000)),
    "endless-status": lambda _: itertools.chain([b"HTTP/1.1 200 "], itertools.repeat(b"x" * 60_000)),
    # Lies about the length, and early ends.
    "length-short": lambda _: answer(length=5),
    "length-long": lambda _: answer(length=500),
    "length-huge": lambda _: answer(length=1 << 62),
    "length-negative": lambda _: answer(length=-1),
    "length-twice": lambda _: answer(YES, JSON, "Content-Length: 5"),
    "length-nonsense": lambda _: answer(length="many"),
    "close-at-once": lambda _: b"",
    "close-in-headers": lambda _: answer()[:30],
    "close-in-body": lambda _: answer()[:-5],
    "close-in-chunk": lambda _: b"".join(chunked([YES]))[:-12],
    "chunk-nonsense": lambda _: next(chunked([])) + b"zz\r\n" + YES,
    # Statuses.
    **{
        path.lower().replace(" ", "-"): lambda _, line=path: status(line)
        for path in [
            "201 Created",
            "202 Accepted",
            "204 No Content",
            "206 Partial Content",
            "400 Bad Request",
            "402 Payment Required",
            "404 Not Found",
            "407 Proxy Authentication Required",
            "429 Too Many Requests",
            "500 Internal Server Error",
            "503 Service Unavailable",
        ]
    },
    **{f"redirect-{code}": lambda _, code=code: redirect(f"{code} Moved") for code in (301, 302, 303, 307, 308)},
    "switching": lambda _: b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n" + answer(),
    "status-1000": lambda _: status("1000 OK"),
    "status-nonsense": lambda _: status("OK"),
    "http-0.9": lambda _: YES,
    "http-2": lambda _: b"\0\0\0\4\0\0\0\0\0",
    "ssh": lambda _: b"SSH-2.0-OpenSSH_9.9\r\n",
    "echo": echo_everywhere,
    # Types.
    "html": lambda _: answer(b"<p>Welcome!</p>", "Content-Type: text/html"),
    "json-as-html": lambda _: answer(YES, "Content-Type: text/html"),
    "no-type": lambda _: answer(YES, "X: x"),
    "two-types": lambda _: answer(YES, JSON, "Content-Type: text/html"),
    "gzip": lambda _: answer(gzip.compress(YES), JSON, "Content-Encoding: gzip"),
    "gzip-unsaid": lambda _: answer(gzip.compress(YES)),
    # Bodies.
    "empty": lambda _: answer(b""),
    "bad-json": lambda _: answer(b'{"user_id":"alice"'),
    "garbage-behind": lambda _: answer(YES + b"x"),
    "bom": lambda _: answer(b"\xef\xbb\xbf" + YES),
    "utf-16": lambda _: answer(YES.decode().encode("utf-16")),
    "bad-utf-8": lambda _: answer(b'{"user_id":"alice","x":"\xff"}'),
    "nul": lambda _: answer(b'{"user_id":"ali\0ce"}'),
    "nul-escaped": lambda _: answer(b'{"user_id":"ali\\u0000ce"}'),
    "array": lambda _: answer(b'["alice"]'),
    "string": lambda _: answer(b'"alice"'),
    "number": lambda _: answer(b'{"user_id":1}'),
    "null": lambda _: answer(b'{"user_id":null}'),
    "no-user": lambda _: answer(b"{}"),
    "empty-user": lambda _: answer(b'{"user_id":""}'),
    "long-user": lambda _: answer(b'{"user_id":"%s"}' % (b"x" * 513)),
    "control-user": lambda _: answer(b'{"user_id":"a\\u001b[31mlice"}'),
    "twice": lambda _: answer(b'{"user_id":"mallory","user_id":"alice"}'),
    "twice-escaped": lambda _: answer(b'{"user_id":"alice","user\\u005fid":"mallory"}'),
    "expires-0": lambda _: yes_with(expires_in=0),
    "expires-negative": lambda _: yes_with(expires_in=-60),
    "expires-fraction": lambda _: yes_with(expires_in=60.5),
    "expires-string": lambda _: yes_with(expires_in="60"),
    "expires-null": lambda _: yes_with(expires_in=None),
}


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        try:
            connection = self.server.welcome(self.request)
            path = "kept-open"
            while path == "kept-open":
                head = b""
                while b"\r\n\r\n" not in head:
                    data = connection.recv(65536)
                    if not data:
                        return
                    head += data
                path = head.split(b" ")[1].decode().lstrip("/")
                said = PATHS[path](head)
                for data in [said] if isinstance(said, bytes) else said:
                    connection.sendall(data)
        except OSError:
            pass  # It was hung up on.


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, welcome):
        super().__init__(("127.0.0.1", 0), Handler)
        self.welcome = welcome
        threading.Thread(target=self.serve_forever, daemon=True).start()


def tls(directory, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / f"{name}.pem", directory / f"{name}.key")
    # It is closed without the alert that ends a TLS stream, as if somebody in between had cut it off.
    return lambda connection: context.wrap_socket(connection, server_side=True)


def never_shakes_hands(connection):
    time.sleep(60)
    return connection


def speaks_http_first(connection):
    connection.sendall(answer(status="400 Bad Request"))
    return connection


def make_certificates(directory):
    """An authority; certificates of it: good, expired, for another name; and two that it has nothing to do with."""

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=directory, check=True, stdin=subprocess.DEVNULL, capture_output=True)

    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for name in ["ca", "stranger", "self-signed"]:
        openssl("req", "-x509", *new_key, "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost",
                "-keyout", f"{name}.key", "-out", f"{name}.pem")
    (directory / "index").touch()
    (directory / "ca.conf").write_text(
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nnew_certs_dir=.\npolicy=p\ndefault_md=sha256\nrand_serial=yes\n"
        "unique_subject=no\n[p]\ncommonName=supplied\n[good]\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n"
        "[other]\nsubjectAltName=DNS:other.example\n"
    ) 
    for name, issuer, section, dates in [
        ("tls", "ca", "good", ["-days", "2"]),
        ("expired", "ca", "good", ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"]),
        ("early", "ca", "good", ["-startdate", "20480101000000Z", "-enddate", "20490101000000Z"]),
        ("other-name", "ca", "other", ["-days", "2"]),
        ("unknown-issuer", "stranger", "good", ["-days", "2"]),
    ]:
        openssl("req", *new_key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("ca", "-batch", "-notext", "-config", "ca.conf", "-extensions", section, *dates, "-in", f"{name}.csr",
                "-cert", f"{issuer}.pem", "-keyfile", f"{issuer}.key", "-out", f"{name}.pem")


def main():
    directory = Path(sys.argv[1])
    make_certificates(directory)
    names = ["tls", "expired", "early", "other-name", "unknown-issuer", "self-signed"]
    servers = {
        "plain": Server(lambda connection: connection),
        "no-handshake": Server(never_shakes_hands),
        "no-tls": Server(speaks_http_first),
        **{name: Server(tls(directory, name)) for name in names},
    }
    print(json.dumps({name: server.server_address[1] for name, server in servers.items()}), flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
