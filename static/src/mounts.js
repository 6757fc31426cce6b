// Mount rows of the launch form: add and remove in place, and offer a destination from the source's last name.
// Without script the same buttons post the form, and the server adds or removes the row.
import { once } from "./once.js";

const SOURCE = /\/([^/]+)\/*$/;

function suggestion(source) {
  const name = SOURCE.exec(source.trim())?.[1];
  return name && !/^\.+$/.test(name) ? `/workspace/${name}` : "";
}

function suggest(row) {
  const [source, destination] = row.querySelectorAll("[data-source], [data-destination]");
  if (!source || !destination) return;
  let offered = suggestion(source.value);
  source.addEventListener("input", () => {
    const ours = destination.value === "" || destination.value === offered;
    offered = suggestion(source.value);
    if (ours && destination.value !== offered) {
      destination.value = offered;
      destination.dispatchEvent(new Event("input", { bubbles: true }));
    }
  });
}

function renumber(list) {
  list.querySelectorAll("[data-mount]").forEach((row, index) => {
    const set = (element, attribute, pattern, to) => {
      const value = element.getAttribute(attribute);
      if (value) element.setAttribute(attribute, value.replace(pattern, to));
    };
    [row, ...row.querySelectorAll("*")].forEach((element) => {
      for (const attribute of ["name", "id", "for", "aria-describedby"]) {
        set(element, attribute, /mounts-(\d+|__n__)-/, `mounts-${index}-`);
      }
      set(element, "aria-label", /mount (\d+|__n__)/i, `mount ${index + 1}`);
      if (element.name === "remove_mount") element.value = String(index);
    });
  });
  list.querySelector("[data-mount-count]").value = list.querySelectorAll("[data-mount]").length;
}

function changed(list) {
  renumber(list);
  list.dispatchEvent(new Event("input", { bubbles: true }));
}

function atMost(list, adder) {
  adder.disabled = list.querySelectorAll("[data-mount]").length >= Number(list.dataset.most);
}

export function initMounts(root) {
  root.querySelectorAll("[data-mounts]").forEach((list) => {
    if (!once(list, "mounts")) return;
    const template = list.querySelector("template");
    const adder = document.querySelector("[data-add-mount]");
    list.querySelectorAll("[data-mount]").forEach(suggest);
    atMost(list, adder);
    adder.addEventListener("click", (event) => {
      event.preventDefault();
      list.append(template.content.cloneNode(true));
      const row = list.querySelector("[data-mount]:last-of-type");
      suggest(row);
      changed(list);
      atMost(list, adder);
      row.querySelector("input").focus();
    });
    list.addEventListener("click", (event) => {
      const remover = event.target.closest("[name=remove_mount]");
      if (!remover) return;
      event.preventDefault();
      remover.closest("[data-mount]").remove();
      changed(list);
      atMost(list, adder);
      adder.focus();
    });
  });
}
