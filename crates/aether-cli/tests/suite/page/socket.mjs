// A WebSocket client that costs little for each message, because a thousand of them share a machine with what is measured.
// The browser's would decode each text. Only what the gateway sends is understood: whole frames without a mask.

import { connect } from "node:net";
import { once } from "node:events";
import { randomBytes } from "node:crypto";

const TEXT = 0x81;
const PING = 0x89;
const PONG = 0x8a;

export class Client {
  /** Connects. `receive` has the payload of each text. */
  static async open(port, receive) {
    const client = new Client();
    client.receive = receive;
    client.socket = connect(port, "127.0.0.1").setNoDelay(true);
    await once(client.socket, "connect");
    client.socket.write(
      `GET /ws HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\nconnection: upgrade\r\nupgrade: websocket\r\n` +
        `sec-websocket-version: 13\r\nsec-websocket-key: ${randomBytes(16).toString("base64")}\r\n\r\n`,
    );
    await new Promise((resolve, reject) => {
      client.socket.once("close", () => reject(new Error("the gateway refused a client")));
      client.socket.once("data", (bytes) => {
        const end = bytes.indexOf("\r\n\r\n");
        if (!bytes.toString("latin1", 0, 12).endsWith("101") || end < 0) reject(new Error(bytes.toString("latin1")));
        client.socket.on("data", (more) => client.#take(more));
        client.#take(bytes.subarray(end + 4));
        resolve();
      });
    });
    client.socket.on("error", () => {});
    return client;
  }

  bytes = 0;
  #rest = Buffer.alloc(0);

  send(message) {
    this.#write(TEXT, Buffer.from(JSON.stringify(message)));
  }

  /** Reads nothing more, as a client that hangs. */
  hang() {
    this.socket.pause();
  }

  close() {
    this.socket.destroy();
  }

  #take(bytes) {
    this.bytes += bytes.length;
    let all = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    while (all.length >= 2) {
      const short = all[1] & 0x7f;
      const head = short < 126 ? 2 : short === 126 ? 4 : 10;
      if (all.length < head) break;
      const length = short < 126 ? short : short === 126 ? all.readUInt16BE(2) : Number(all.readBigUInt64BE(2));
      if (all.length < head + length) break;
      const payload = all.subarray(head, head + length);
      if (all[0] === TEXT) this.receive(payload);
      else if (all[0] === PING) this.#write(PONG, payload);
      all = all.subarray(head + length);
    }
    this.#rest = all;
  }

  /** Clients have to mask; a mask of zeros leaves the bytes as they are. */
  #write(kind, payload) {
    const long = payload.length > 125;
    const head = Buffer.alloc(long ? 8 : 6);
    head[0] = kind;
    head[1] = 0x80 | (long ? 126 : payload.length);
    if (long) head.writeUInt16BE(payload.length, 2);
    this.socket.write(Buffer.concat([head, payload]));
  }
}
