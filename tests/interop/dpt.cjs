// A discovery node of @ethereumjs/devp2p. Its argument is the enode URL of its bootstrap node. It prints one JSON
// object a line: first its public key and port, then its table, whenever that has changed.
"use strict";

const crypto = require("node:crypto");
const dgram = require("node:dgram");
const { DPT } = require("@ethereumjs/devp2p");

const hex = (bytes) => Buffer.from(bytes).toString("hex");
const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");

const url = new URL(process.argv[2].replace("enode:", "http:"));
const bootnode = {
  id: Uint8Array.from(Buffer.from(url.username, "hex")),
  address: url.hostname,
  udpPort: Number(url.searchParams.get("discport") ?? url.port),
  tcpPort: Number(url.port),
};

// The socket is bound first, since the DPT tells others the endpoint that it is constructed with.
const socket = dgram.createSocket("udp4");
socket.bind(0, "127.0.0.1", () => {
  const { port } = socket.address();
  const dpt = new DPT(Uint8Array.from(crypto.randomBytes(32)), {
    endpoint: { address: "127.0.0.1", udpPort: port, tcpPort: port },
    createSocket: () => socket,
  });
  // Among its errors are what it cannot read, such as requests for a node record, and peers that do not answer.
  dpt.events.on("error", (error) => process.stderr.write(`${error.message}\n`));
  say({ id: hex(dpt.id), port });

  let printed = "";
  setInterval(() => {
    const peers = dpt.getPeers().map(({ id, address, udpPort }) => ({ id: hex(id), address, udpPort }));
    const line = JSON.stringify({ peers });
    if (line !== printed) process.stdout.write(line + "\n");
    printed = line;
  }, 200);
  dpt.bootstrap(bootnode);
});
