// SPDX-License-Identifier: MIT
// `tls.mjs CERT KEY PORT PROTOCOL`: a TLS server on 127.0.0.1 in front of the scripted model server at PORT; PROTOCOL is
// h2 or http/1.1. Prints its own port, then the protocol of each request. Ends when standard input ends.
import fs from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";

const [cert, key, port, protocol] = process.argv.slice(2);
const options = { cert: fs.readFileSync(cert), key: fs.readFileSync(key) };
// What belongs to a connection and not to a message; HTTP/2 refuses it.
const own = new Set(["connection", "keep-alive", "transfer-encoding", "host"]);
const keep = (headers) => Object.fromEntries(Object.entries(headers).filter(([name]) => !own.has(name) && !name.startsWith(":")));

function serve(request, response) {
  console.log(request.httpVersion);
  const up = http.request({ host: "127.0.0.1", port, method: request.method, path: request.url, headers: keep(request.headers) }, (r) => {
    response.writeHead(r.statusCode, keep(r.headers));
    r.pipe(response);
  });
  up.on("error", () => response.destroy());
  request.pipe(up);
}

const server = protocol === "h2" ? http2.createSecureServer(options, serve) : https.createServer(options, serve);
server.on("tlsClientError", () => {}); // a client that does not trust us
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit(0)).resume();
