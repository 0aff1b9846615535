// Logs the job out, also after a step that failed. Trouble here fails no job.
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";

const { STATE_program: program, STATE_folder: folder } = process.env;
const { STATE_url: url, STATE_audience: audience } = process.env;
if (program && folder) {
  try {
    const env = { ...process.env, XDG_CACHE_HOME: folder, RISE_URL: url };
    // The credential is given back with a token for the broker that issued it.
    if (audience) env.RISE_AUDIENCE = audience;
    execFileSync(program, ["logout"], { env, stdio: ["ignore", "inherit", "inherit"] });
  } catch (error) {
    process.stdout.write(`::warning title=rise-registry::not logged out: ${error.message}\n`);
  }
}
if (folder) rmSync(folder, { recursive: true, force: true });
