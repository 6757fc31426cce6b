"""What a hostile page runs in its visitor's browser, each as a function for `page.evaluate`."""

from __future__ import annotations

FETCHES = """async (url) => {
  const tried = {};
  for (const [name, options] of Object.entries({
    simple: {credentials: "include"},
    opaque: {credentials: "include", mode: "no-cors"},
    header: {credentials: "include", headers: {"HX-Request": "true"}},
    json: {credentials: "include", method: "PUT", headers: {"Content-Type": "application/json"}, body: "{}"},
    post: {credentials: "include", method: "POST", body: new URLSearchParams({a: "1"})},
  })) tried[name] = await fetch(url, options).then(async (a) => `read ${a.type} ${await a.text()}`, () => "failed");
  return tried;
}"""
LOADS = """async ([tag, attribute, url]) => {
  const element = document.createElement(tag);
  const end = new Promise((done) => { element.onload = () => done("loaded"); element.onerror = () => done("failed"); });
  element[attribute] = url;
  document.body.append(element);
  return await Promise.race([end, new Promise((done) => setTimeout(() => done("nothing"), 5000))]);
}"""
SOCKET = """(url) => new Promise((done) => {
  const socket = new WebSocket(url);
  socket.onopen = () => done("open");
  socket.onclose = () => done("closed");
})"""
OPENED = """async (url) => {
  const found = window.open(url, "_blank");
  window.found = found;
  for (let tries = 0; tries < 100 && !found.closed; tries += 1) {
    try { if (found.document.body.innerText.includes("Agents")) return "read"; } catch { /* another origin */ }
    await new Promise((next) => setTimeout(next, 50));
  }
  return found.closed ? "severed" : "held";
}"""
INJECTED = """async () => {
  const seen = [];
  document.addEventListener("securitypolicyviolation", (event) => seen.push(event.effectiveDirective));
  const script = document.createElement("script");
  script.textContent = "window.hacked = 1";
  document.body.append(script);
  document.body.insertAdjacentHTML("beforeend", "<img src='/nothing' onerror='window.hacked = 1'>");
  document.body.insertAdjacentHTML("beforeend", "<iframe src='javascript:parent.hacked = 1'></iframe>");
  const other = document.createElement("script");
  other.src = "http://127.0.0.1:9/x.js";
  document.body.append(other);
  for (let tries = 0; tries < 100 && seen.length < 3; tries += 1) await new Promise((next) => setTimeout(next, 50));
  return [window.hacked ?? 0, seen];
}"""
