"""An auth service that needs nothing but Python: auth.py PORT [CERTIFICATE KEY], for the users that /var/lib/auth/users has."""

import http.server
import json
import ssl
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        key = self.headers.get("authorization", "")[len("Bearer ") :]
        with open("/var/lib/auth/users") as users:
            keys = {f"key-of-{user}": user.removesuffix("-nightly") for user in users.read().split()}
        user = keys.get(key)
        body = json.dumps({"user_id": user} if user else {}).encode()
        self.send_response(200 if user else 401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
