// Bundles static/src and static/css into static/dist; run by `npm run build`.
import { cp, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const from = (...parts) => path.join(root, ...parts);
const dist = from("static", "dist");

// What pages load; every other file is imported by one of these.
const ENTRIES = ["src/app.js", "src/theme.js", "src/terminal.js", "css/app.css", "css/admin.css", "css/terminal.css"];

async function bundle() {
  const present = ENTRIES.filter((entry) => existsSync(from("static", entry)));
  await build({
    entryPoints: present.map((entry) => ({ in: from("static", entry), out: path.parse(entry).name })),
    outdir: dist,
    absWorkingDir: root,
    bundle: true,
    minify: true,
    format: "iife", // no top-level names leak, and theme.js may run before the page is parsed
    target: ["es2022"],
    legalComments: "linked",
    loader: { ".svg": "file", ".woff2": "file" },
    assetNames: "[name]-[hash]",
    logLevel: "warning",
  });
}

function symbol(name, svg) {
  const drawing = svg.replace(/^[\s\S]*?<svg[\s\S]*?>/, "").replace(/<\/svg>\s*$/, "").trim();
  return `<symbol id="${name}" viewBox="0 0 24 24">${drawing.replace(/\s*\n\s*/g, "")}</symbol>`;
}

async function sprite() {
  const names = JSON.parse(await readFile(from("static", "icons.json"), "utf8"));
  const symbols = await Promise.all(
    names.map(async (name) =>
      symbol(name, await readFile(from("node_modules", "lucide-static", "icons", `${name}.svg`), "utf8")),
    ),
  );
  const licence = "<!-- Icons: Lucide, ISC licence, https://lucide.dev/license -->";
  await writeFile(
    path.join(dist, "icons.svg"),
    `<svg xmlns="http://www.w3.org/2000/svg">${licence}${symbols.join("")}</svg>\n`,
  );
}

await rm(dist, { recursive: true, force: true });
await mkdir(dist, { recursive: true });
await Promise.all([bundle(), sprite(), cp(from("static", "img"), dist, { recursive: true })]);
console.log(`static/dist: ${(await readdir(dist)).sort().join(" ")}`);
