#!/usr/bin/env node
// SPDX-License-Identifier: MIT OR Apache-2.0
// Holds the crates to the layout of docs/architecture.md: dependencies point one way (proto <- round <- engine <- daemon), each
// heavy dependency has one crate, and versions with known faults are refused even where cargo-deny is not at hand.
"use strict";
import { execFileSync } from "node:child_process";

const metadata = JSON.parse(
  execFileSync("cargo", ["metadata", "--format-version", "1", "--locked", "--quiet"], {
    encoding: "utf8",
    maxBuffer: 256 * 1024 * 1024,
  }),
);
const members = new Set(metadata.workspace_members);
const ours = metadata.packages.filter((p) => members.has(p.id));
const faults = [];

// What a crate of ours may depend on among ours. What is not listed here may depend on nothing of ours.
const allowed = {
  "diversity-proto": [],
  "diversity-keys": [],
  "diversity-exec": [],
  "diversity-net": [],
  "diversity-store": [],
  "diversity-sensor-core": [],
  "diversity-round": ["proto"],
  "diversity-engine": ["proto", "round"],
  "diversity-chain": ["proto", "keys"],
  "diversity-client": ["proto", "keys"],
  "diversity-daemon": ["proto", "engine", "exec", "net", "chain", "store", "keys", "client"],
  "diversity-sensor-sim": ["proto", "client", "keys", "sensor-core"],
  "diversity-sim": ["proto", "round", "engine", "keys"],
  "diversity-liar": ["proto", "engine", "exec", "daemon"],
  "diversity-e2e": ["proto", "client", "chain", "keys"],
};

// Heavy dependencies, and the crates that may name them outside their tests.
const homes = {
  wasmtime: ["diversity-exec"],
  libp2p: ["diversity-net"],
  sled: ["diversity-store"],
  alloy: ["diversity-chain"],
  axum: ["diversity-daemon"],
  utoipa: ["diversity-daemon"],
  "prometheus-client": ["diversity-daemon"],
  figment: ["diversity-daemon"],
  musig2: ["diversity-keys"],
  secp256k1: ["diversity-keys"],
  "ed25519-dalek": ["diversity-keys"],
  k256: ["diversity-sensor-core"],
  reqwest: ["diversity-client", "diversity-chain"],
};

// The core has no IO: nothing of these, in no form.
const core = ["diversity-proto", "diversity-round", "diversity-engine"];
const io = ["tokio", "futures", "tracing", "rand", "rand_chacha", "getrandom", "reqwest", "serde"];

// Lowest versions that are safe; deny.toml says why.
const lowest = { "libp2p-yamux": "0.48.0", "libp2p-gossipsub": "0.50.1", wasmtime: "48.0.8" };

for (const p of ours) {
  const own = p.dependencies.filter((d) => d.kind === null);
  const may = allowed[p.name];
  if (may === undefined) faults.push(`${p.name} is not in the table of tests/checks/dependencies.mjs: add it`);
  for (const d of own) {
    if (d.name.startsWith("diversity-") && !may?.includes(d.name.slice("diversity-".length))) {
      faults.push(`${p.name} depends on ${d.name}, against the direction of the layout`);
    }
    if (homes[d.name] && !homes[d.name].includes(p.name)) {
      faults.push(`${p.name} depends on ${d.name}, which belongs to ${homes[d.name].join(" and ")} alone`);
    }
    if (core.includes(p.name) && io.includes(d.name)) {
      faults.push(`${p.name} depends on ${d.name}, but the core has no IO, no randomness and no logging`);
    }
  }
  if (p.license !== "MIT OR Apache-2.0") faults.push(`${p.name} has licence ${p.license}`);
}

const below = (a, b) => {
  const [x, y] = [a, b].map((v) => v.split(/[.+-]/).slice(0, 3).map(Number));
  const i = x.findIndex((n, k) => n !== y[k]);
  return i >= 0 && x[i] < y[i];
};
for (const p of metadata.packages) {
  if (lowest[p.name] && below(p.version, lowest[p.name])) {
    faults.push(`${p.name} ${p.version} is below ${lowest[p.name]}, which mends known faults`);
  }
  if (p.source !== null && p.source !== "registry+https://github.com/rust-lang/crates.io-index") {
    faults.push(`${p.name} comes from ${p.source}`);
  }
}

for (const fault of faults) console.error(`dependencies: ${fault}`);
if (faults.length === 0) console.log(`dependencies: ${ours.length} crates of ours keep to the layout, ${metadata.packages.length} in all`);
process.exitCode = faults.length === 0 ? 0 : 1;
