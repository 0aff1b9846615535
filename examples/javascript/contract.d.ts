// The types of the contract for editors: what provider.js imports and exports. wit/ describes them.

declare module "rise:registry/types@0.1.0" {
  export class Secret {
    constructor(text: string);
    expiresAt(): bigint | undefined;
    /** A claim of a JWT of takeSecret, such as `sub`. */
    claim(name: string): string | undefined;
  }
  export interface Actions {
    pull?: boolean;
    push?: boolean;
    delete?: boolean;
  }
  export class Grant {
    id(): string;
    project(): string;
    actions(): Actions;
    lifetime(): number;
    now(): bigint;
  }
  export interface Location {
    host: string;
    repository: string;
  }
  export interface Login {
    username: string;
    password: Secret;
  }
  export type Credential =
    | { tag: "client-auth" }
    | { tag: "basic"; val: Login }
    | { tag: "bearer"; val: Secret }
    | { tag: "refresh"; val: Secret };
  export interface Issued {
    credential: Credential;
    expiresAt?: bigint;
  }
  /** Throw one. An error of a capability has it in `payload`. */
  export type Error =
    | { tag: "throttled"; val?: number }
    | {
        tag:
          | "invalid-settings"
          | "refused"
          | "denied"
          | "not-found"
          | "unavailable"
          | "unsupported"
          | "failed";
        val: string;
      };
}

declare module "rise:registry/log@0.1.0" {
  export function write(level: "debug" | "info" | "warn" | "error", message: string): void;
}

declare module "rise:registry/secrets@0.1.0" {
  import { Secret } from "rise:registry/types@0.1.0";
  export function get(name: string): Secret;
}

declare module "rise:registry/http@0.1.0" {
  import { Secret } from "rise:registry/types@0.1.0";
  export type Method = "get" | "head" | "post" | "put" | "patch" | "delete";
  export class Request {
    constructor(method: Method, url: string);
    header(name: string, value: string): void;
    headerSecret(name: string, value: Secret): void;
    bearer(token: Secret): void;
    basic(username: string, password: Secret): void;
    json(text: string): void;
    jsonSecret(pointer: string, value: Secret): void;
    form(name: string, value: string): void;
    formSecret(name: string, value: Secret): void;
  }
  export class Response {
    status(): number;
    success(): void;
    header(name: string): string | undefined;
    text(): string;
    takeSecret(pointer: string): Secret | undefined;
  }
  export function send(request: Request): Response;
}

declare module "rise:registry/aws@0.1.0" {
  import { Secret } from "rise:registry/types@0.1.0";
  export interface Statement {
    actions: string[];
    resources: string[];
  }
  export interface RegistryLogin {
    endpoint: string;
    username: string;
    password: Secret;
    expiresAt: bigint;
  }
  export class Session {
    ecrLogin(region: string): RegistryLogin;
  }
  export function assumeRole(roleArn: string, statements: Statement[]): Session;
  export function unscoped(): Session;
}

declare module "rise:registry/assertions@0.1.0" {
  import { Secret } from "rise:registry/types@0.1.0";
  export function sign(key: Secret, header: string, claims: string): Secret;
}

declare module "rise:registry/random@0.1.0" {
  import { Secret } from "rise:registry/types@0.1.0";
  export function password(length: number, alphabet: string): Secret;
  export function text(length: number, alphabet: string): string;
}

declare module "rise:registry/kept@0.1.0" {
  import { Secret } from "rise:registry/types@0.1.0";
  export function keep(name: string, value: Secret, expiresAt: bigint): void;
  export function find(name: string): Secret | undefined;
  export function forget(name: string): void;
}

/** Optional: `export const endpoints: Endpoints`, and `export rise:registry/endpoints@0.1.0;` in
 * wit/mine.wit. */
interface Endpoints {
  needs(settings: string): { requests?: string[]; imageHost?: string };
}

/** `export const registry: Registry`. */
interface Registry {
  describe(): {
    name: string;
    aliases: string[];
    version: string;
    description: string;
    settingsSchema: string;
  };
  /** Throws a list of problems. */
  check(settings: string): "repository" | "namespace" | "registry" | "none";
  locate(settings: string, project: string): import("rise:registry/types@0.1.0").Location;
  resolve(
    settings: string,
    location: import("rise:registry/types@0.1.0").Location,
  ): string | undefined;
  issue(
    settings: string,
    grant: import("rise:registry/types@0.1.0").Grant,
  ): import("rise:registry/types@0.1.0").Issued;
}
