#!/usr/bin/env node
// SPDX-License-Identifier: MIT OR Apache-2.0
// Writes artifacts/MainContract.json, which the Rust code embeds; with --check, says whether it is what the source
// builds (exit code 1 if not). Call it after `forge build`.
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const target = join(root, "artifacts", "MainContract.json");
const CODE_BYTES_MAX = 24_576; // EIP-170

const built = JSON.parse(readFileSync(join(root, "out", "MainContract.sol", "MainContract.json"), "utf8"));
const size = (built.deployedBytecode.object.length - 2) / 2;
if (size > CODE_BYTES_MAX) {
  console.error(`MainContract has ${size} bytes of code, more than the ${CODE_BYTES_MAX} that a chain takes (EIP-170)`);
  process.exit(1);
}
const { compiler, settings } = built.metadata ?? JSON.parse(built.rawMetadata);
const artifact = {
  contract: "MainContract",
  solc: compiler.version,
  evmVersion: settings.evmVersion,
  deployedBytecodeBytes: size,
  bytecode: built.bytecode.object,
  abi: built.abi,
};
const text = JSON.stringify(artifact, null, 1) + "\n";

if (process.argv.includes("--check")) {
  const committed = readFileSync(target, "utf8");
  if (committed !== text) {
    console.error("artifacts/MainContract.json is not what the source builds: run `make -C contracts artifacts` and commit it");
    process.exit(1);
  }
  console.log(`artifacts/MainContract.json is what the source builds (${size} bytes of code)`);
} else {
  writeFileSync(target, text);
  console.log(`wrote artifacts/MainContract.json (${size} bytes of code)`);
}
