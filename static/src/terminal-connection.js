// The websocket of one terminal: reconnects by itself, says what was shown (credit), sends no more than is taken.
const ACKNOWLEDGE = 32 * 1024;
const CHUNK = 16 * 1024; // one message of input
const IN_FLIGHT = 128 * 1024; // input that the terminal has not taken yet
const MOST_WAITING = 8 * 1024 * 1024; // what a paste may hold back here
const FIRST_DELAY = 400; // ms
const LONGEST_DELAY = 15000;
const ENDED = 4000;
const LOGGED_OUT = 4401;
const NOT_YOURS = 4404;
const WORDS = { [LOGGED_OUT]: "you are logged out", [NOT_YOURS]: "there is no such agent any more" };

export class Connection {
  // `url` gives the address with the present size; handlers: status, ready, bytes, viewers.
  constructor({ url, page, handlers }) {
    this._url = url;
    this._page = page;
    this._on = handlers;
    this._tries = 0;
    this._over = false;
    this._wake = () => { if (!this._over && !this._socket) this._connect(); };
    window.addEventListener("online", this._wake);
    document.addEventListener("visibilitychange", this._wake);
    this._connect();
  }

  get open() { return this._socket?.readyState === WebSocket.OPEN; }

  retryNow() { this._wake(); }

  resize(rows, columns) { this._control({ type: "resize", rows, columns }); }

  // Type bytes; false if they cannot be sent.
  type(bytes) {
    if (!this.open || this._waitingBytes + bytes.length > MOST_WAITING) return false;
    for (let at = 0; at < bytes.length; at += CHUNK) this._waiting.push(bytes.subarray(at, at + CHUNK));
    this._waitingBytes += bytes.length;
    this._flush();
    return true;
  }

  // `count` bytes of `socket` have reached the screen; what came over an earlier connection counts no more.
  shown(count, socket) {
    if (socket !== this._socket) return;
    this._shown += count;
    if (this._shown >= ACKNOWLEDGE) {
      this._control({ type: "ack", bytes: this._shown });
      this._shown = 0;
    }
  }

  close() {
    this._over = true;
    clearTimeout(this._timer);
    window.removeEventListener("online", this._wake);
    document.removeEventListener("visibilitychange", this._wake);
    this._socket?.close();
    this._socket = null;
  }

  _connect() {
    clearTimeout(this._timer);
    this._shown = 0;
    this._inFlight = 0;
    this._waiting = [];
    this._waitingBytes = 0;
    this._on.status({ state: "connecting" });
    const socket = new WebSocket(this._url());
    let opened = false;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => { opened = true; };
    socket.onmessage = (event) => this._receive(event.data, socket);
    socket.onclose = (event) => {
      if (socket !== this._socket) return;
      this._socket = null;
      this._closed(event.code, opened);
    };
    this._socket = socket;
  }

  _receive(data, socket) {
    if (socket !== this._socket) return;
    if (typeof data !== "string") {
      this._on.bytes(new Uint8Array(data), (count) => this.shown(count, socket));
      return;
    }
    const control = JSON.parse(data);
    if (control.type === "ready") {
      this._tries = 0;
      this._on.status({ state: "connected" });
      this._on.ready(control.replay);
    } else if (control.type === "waiting") {
      this._on.status({ state: control.waiting ? "waiting" : "connected" });
    } else if (control.type === "viewers") {
      this._on.viewers(control.count, control.answers);
    } else if (control.type === "typed") {
      this._inFlight -= control.bytes;
      this._flush();
    } else if (control.type === "ended") {
      this._end(control.reason);
    } else if (control.type === "refused") {
      this._refused = control.reason;
    }
  }

  _flush() {
    while (this._waiting.length && this._inFlight < IN_FLIGHT && this.open) {
      const bytes = this._waiting.shift();
      this._waitingBytes -= bytes.length;
      this._inFlight += bytes.length;
      this._socket.send(bytes);
    }
  }

  _control(control) {
    if (this.open) this._socket.send(JSON.stringify(control));
  }

  async _closed(code, opened) {
    if (this._over) return;
    if (code === ENDED) this._end("");
    else if (WORDS[code]) this._end(WORDS[code]);
    else if (!opened && (await this._lost())) return;
    else this._again();
  }

  // A refused handshake looks like an absent server: the page of the agent tells which it is.
  async _lost() {
    try {
      const answer = await fetch(this._page, { method: "HEAD", redirect: "manual", cache: "no-store" });
      if (answer.type === "opaqueredirect") this._end(WORDS[LOGGED_OUT]);
      else if (answer.status === 404) this._end(WORDS[NOT_YOURS]);
    } catch {
      return false; // no server just now
    }
    return this._over;
  }

  _again() {
    if (this._over || this._socket) return;
    const longest = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this._tries);
    const until = Date.now() + longest * (0.75 + Math.random() / 4);
    this._tries += 1;
    const tick = () => {
      const left = until - Date.now();
      if (left <= 0) {
        this._connect();
        return;
      }
      this._on.status({ state: "reconnecting", seconds: Math.ceil(left / 1000), reason: this._refused });
      this._timer = setTimeout(tick, Math.min(left, 1000));
    };
    tick();
  }

  _end(reason) {
    if (this._over) return;
    this.close();
    this._on.status({ state: "ended", reason });
  }
}
