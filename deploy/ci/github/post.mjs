// Logs the job out, also after a step that failed. Trouble here fails no job.
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";

const { STATE_program: program, STATE_cache: cache, STATE_url: url } = process.env;
if (program && cache) {
  try {
    const env = { ...process.env, XDG_CACHE_HOME: cache, RISE_URL: url };
    execFileSync(program, ["logout"], { env, stdio: ["ignore", "inherit", "inherit"] });
  } catch (error) {
    process.stdout.write(`::warning title=rise-registry::not logged out: ${error.message}\n`);
  }
  rmSync(cache, { recursive: true, force: true });
}
