// The program rise-registry: downloaded once for each digest, or the one on PATH.
import { createHash, randomUUID } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** Reads a program of this digest that an earlier job left. */
function kept(path, digest) {
  try {
    const bytes = readFileSync(path);
    return sha256(bytes) === digest ? bytes : null;
  } catch {
    return null;
  }
}

async function download(url, digest) {
  const answer = await fetch(url, { signal: AbortSignal.timeout(120_000) });
  if (!answer.ok) throw new Error(`${url} answers ${answer.status}`);
  const bytes = Buffer.from(await answer.arrayBuffer());
  if (sha256(bytes) !== digest) {
    throw new Error(`${url} has the SHA-256 ${sha256(bytes)}, and not ${digest} as configured`);
  }
  return bytes;
}

/**
 * Returns the path of the program, in a folder `own` of this job. `shared` outlives the job on
 * runners that are kept, and every job can write it: nothing in it is started.
 */
export async function program(url, digest, shared, own) {
  if (!url && !digest) return "rise-registry";
  if (!url || !/^[0-9a-f]{64}$/.test(digest)) {
    throw new Error("`download` needs `sha256`, 64 digits in lower case, and the other way round");
  }
  const { protocol, hostname } = new URL(url);
  const isLocal = protocol === "http:" && hostname === "127.0.0.1";
  if (protocol !== "https:" && !isLocal) throw new Error(`\`download\` is not https: ${url}`);
  const place = join(shared, "rise-registry", digest);
  const path = join(place, "rise-registry");
  let bytes = kept(path, digest);
  if (!bytes) {
    bytes = await download(url, digest);
    mkdirSync(place, { recursive: true });
    const whole = join(place, randomUUID());
    writeFileSync(whole, bytes);
    renameSync(whole, path);
  }
  mkdirSync(own);
  const started = join(own, "rise-registry");
  writeFileSync(started, bytes, { mode: 0o755 });
  return started;
}
