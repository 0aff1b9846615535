// Makes a component of provider.js: node build.mjs TOOLS WIT OUT
import { readFile, writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [tools, witPath, out] = process.argv.slice(2);
const tool = resolve(tools, "node_modules/@bytecodealliance/componentize-js");
const { exports } = JSON.parse(await readFile(resolve(tool, "package.json"), "utf8"));
const { componentize } = await import(pathToFileURL(resolve(tool, exports.import)));
const { component } = await componentize(await readFile("provider.js", "utf8"), {
  witPath: resolve(witPath),
  worldName: "mine",
  // Without "clocks" and "random", Date.now() and Math.random() would always return what they
  // returned at build. With "stdio" the broker logs the text of an uncaught exception.
  disableFeatures: ["http", "fetch-event"],
});
await writeFile(out, component);
