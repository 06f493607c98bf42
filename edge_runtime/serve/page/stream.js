// The stream of the live camera: a WebSocket that is opened again when it breaks off.

import { takeTicket } from "/page/server.js";

const PAUSES_MS = [500, 1000, 2000, 5000];
const SILENCE_MS = 6000; // the robot says something every second

export class Stream {
  /** `onLine` gets each line, and null when the stream has broken off. */
  constructor(onLine) {
    this.onLine = onLine;
    this.socket = null;
    this.wanted = 0; // rises with each opening and closing; what belongs to an earlier one is over
    this.failures = 0;
  }

  async open() {
    const mine = ++this.wanted;
    let ticket;
    try {
      ticket = await takeTicket(); // not every browser sends its password with a WebSocket
    } catch {
      return this.again(mine);
    }
    if (mine !== this.wanted) return undefined;
    const address = new URL("/v1/stream", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = (this.socket = new WebSocket(address, ["roborefer-edge", `ticket.${ticket}`]));
    this.listen(socket, mine);
    socket.addEventListener("message", (event) => {
      if (mine !== this.wanted) return;
      this.failures = 0;
      this.listen(socket, mine);
      this.onLine(JSON.parse(event.data));
    });
    socket.addEventListener("close", () => this.again(mine));
    return undefined;
  }

  close() {
    this.wanted += 1;
    clearTimeout(this.silence);
    this.socket?.close();
  }

  /** A robot that is switched off closes nothing. */
  listen(socket, mine) {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => {
      socket.close();
      this.again(mine);
    }, SILENCE_MS);
  }

  again(mine) {
    if (mine !== this.wanted) return;
    this.wanted += 1;
    clearTimeout(this.silence);
    this.onLine(null);
    const after = this.wanted;
    const pause = PAUSES_MS[Math.min(this.failures++, PAUSES_MS.length - 1)];
    setTimeout(() => after === this.wanted && this.open(), pause);
  }
}
