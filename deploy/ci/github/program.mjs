// The program rise-registry: downloaded once for each digest, or the one on PATH.
import { createHash, randomUUID } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** Reads a program of this digest that an earlier run left. */
function kept(path, digest) {
  try {
    return sha256(readFileSync(path)) === digest;
  } catch {
    return false;
  }
}

/** Returns the path of the program. `folder` outlives the job on runners that are kept. */
export async function program(url, digest, folder) {
  if (!url && !digest) return "rise-registry";
  if (!url || !/^[0-9a-f]{64}$/.test(digest)) {
    throw new Error("`download` needs `sha256`, 64 digits in lower case, and the other way round");
  }
  const { protocol, hostname } = new URL(url);
  const isLocal = protocol === "http:" && hostname === "127.0.0.1";
  if (protocol !== "https:" && !isLocal) throw new Error(`\`download\` is not https: ${url}`);
  const place = join(folder, "rise-registry", digest);
  const path = join(place, "rise-registry");
  if (kept(path, digest)) return path;
  const answer = await fetch(url, { signal: AbortSignal.timeout(120_000) });
  if (!answer.ok) throw new Error(`${url} answers ${answer.status}`);
  const bytes = Buffer.from(await answer.arrayBuffer());
  if (sha256(bytes) !== digest) {
    throw new Error(`${url} has the SHA-256 ${sha256(bytes)}, and not ${digest} as configured`);
  }
  mkdirSync(place, { recursive: true });
  const whole = join(place, randomUUID());
  writeFileSync(whole, bytes, { mode: 0o755 });
  renameSync(whole, path);
  return path;
}
