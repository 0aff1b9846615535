// Logs the job in. Inputs are variables and never part of a script: they may contain a branch name.
import { execFileSync } from "node:child_process";
import { appendFileSync, mkdtempSync } from "node:fs";
import { dirname, join } from "node:path";
import { program } from "./program.mjs";

const { env } = process;
const input = (name) => (env[`INPUT_${name.toUpperCase()}`] ?? "").trim();

/** Appends a line to one of the runner's files. */
function tell(file, line) {
  if (/[\r\n]/.test(line)) throw new Error(`more than one line for ${file}: ${line}`);
  appendFileSync(env[file], `${line}\n`);
}

try {
  // Only in this job's folder: the runner may keep the home and its tools for the next job.
  const folder = mkdtempSync(join(env.RUNNER_TEMP, "rise-registry-"));
  tell("GITHUB_STATE", `folder=${folder}`);
  const own = join(folder, "bin");
  const path = await program(input("download"), input("sha256"), env.RUNNER_TOOL_CACHE, own);
  const variables = { ...env, XDG_CACHE_HOME: folder, RISE_URL: input("url") };
  for (const name of ["project", "registry", "audience"]) {
    if (input(name)) variables[`RISE_${name.toUpperCase()}`] = input(name);
  }
  // First of all: a login that fails half-way is removed too.
  tell("GITHUB_STATE", `program=${path}`);
  tell("GITHUB_STATE", `url=${input("url")}`);
  tell("GITHUB_STATE", `audience=${input("audience")}`);
  const run = (...args) => execFileSync(path, args, { env: variables, encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"] });
  const actions = input("actions") ? ["--actions", input("actions")] : [];
  process.stdout.write(run("docker-login", "--add-mask", ...actions));
  tell("GITHUB_OUTPUT", `image=${run("image").trim()}`);
  if (path !== "rise-registry") tell("GITHUB_PATH", dirname(path));
} catch (error) {
  const line = String(error.message).replaceAll("%", "%25").replaceAll(/[\r\n]+/g, " ");
  process.stdout.write(`::error title=rise-registry::${line}\n`);
  process.exitCode = 1;
}
