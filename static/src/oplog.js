// The output of an operation, while it runs: only what is new is asked for; the end is followed until one scrolls up.
import { once } from "./once.js";

const PAUSE = 500; // milliseconds; the runner writes what it has each 300
const AFTER_FAILURE = 3000;
const NEAR = 24; // pixels from the end that still count as the end

function atEnd(list) {
  return list.scrollHeight - list.scrollTop - list.clientHeight < NEAR;
}

class OpLog {
  constructor(root) {
    this.root = root;
    this.list = root.querySelector("[data-log]");
    this.follow = root.querySelector("[data-log-follow]");
    this.count = root.querySelector("[data-log-count]");
    this.since = Number(root.dataset.since);
    this.most = Number(root.dataset.most);
    this.left = 0; // lines that were taken out again
    this.follow.closest("[hidden]")?.removeAttribute("hidden");
    this.follow.addEventListener("change", () => this.toEnd());
    this.list.addEventListener("scroll", () => {
      this.follow.checked = atEnd(this.list);
    });
    this.toEnd();
    if (root.dataset.oplog) this.next(PAUSE);
  }

  toEnd() {
    if (this.follow.checked) this.list.scrollTop = this.list.scrollHeight;
  }

  next(pause) {
    setTimeout(() => this.ask(), pause);
  }

  async ask() {
    if (!this.root.isConnected) return;
    if (document.visibilityState !== "visible") return this.next(PAUSE);
    try {
      const url = `${this.root.dataset.oplog}?since=${this.since}`;
      const answer = await fetch(url, { credentials: "same-origin", redirect: "error" });
      if (answer.status >= 400 && answer.status < 500) return; // logged out, or gone: the page itself says so
      if (!answer.ok) throw new Error(String(answer.status));
      this.take(await answer.text());
      this.since = Number(answer.headers.get("X-Log-Last") ?? this.since);
      if (answer.headers.get("X-Log-Open") === "1") this.next(PAUSE);
    } catch {
      this.next(AFTER_FAILURE);
    }
  }

  take(html) {
    const lines = new DOMParser().parseFromString(`<ol>${html}</ol>`, "text/html").querySelectorAll("li");
    if (!lines.length) return;
    this.root.querySelector("[data-log-empty]").hidden = true;
    this.list.parentElement.hidden = false;
    this.list.append(...lines);
    this.trim();
    this.count.textContent = `${this.left ? "the last " : ""}${this.list.children.length} lines`;
    this.toEnd();
  }

  // What leaves at the top must not move what is being read.
  trim() {
    const over = this.list.children.length - this.most;
    if (over <= 0) return;
    const before = this.list.scrollHeight;
    for (let n = 0; n < over; n += 1) this.list.firstElementChild.remove();
    this.left += over;
    this.list.style.setProperty("--from", this.left);
    if (!this.follow.checked) this.list.scrollTop -= before - this.list.scrollHeight;
  }
}

export function initOpLogs(root) {
  root.querySelectorAll("[data-oplog]").forEach((part) => {
    if (once(part, "oplog")) new OpLog(part);
  });
}
