#!/usr/bin/env node
// SPDX-License-Identifier: MIT OR Apache-2.0
// Writes artifacts/*.json, which the Rust code embeds; with --check, says whether they are what the source builds, and
// with --sizes only whether each contract fits into what a chain takes (exit code 1 if not). Call it after `forge build`.
//
// MainContract and Cells call libraries. Their `bytecode` has 20 zero bytes wherever the address of one belongs, and
// `linkReferences` says which: { library: [offset of its 20 bytes in `bytecode`, in bytes, ...] }. So deploy the libraries
// first (they link nothing and take no arguments), write their addresses over the zeros, and append the arguments of the
// constructor, if it has any.
import { readFileSync, writeFileSync, readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const folder = join(root, "artifacts");
const CODE_BYTES_MAX = 24_576; // EIP-170
const INIT_BYTES_MAX = 49_152; // EIP-3860
// In the order in which they can be deployed.
const CONTRACTS = ["Evidence", "Holes", "Resolutions", "MainContract", "Cells"];

const fail = (text) => {
  console.error(text);
  process.exit(1);
};

function artifact(name) {
  const built = JSON.parse(readFileSync(join(root, "out", `${name}.sol`, `${name}.json`), "utf8"));
  const bytes = (hex) => (hex.length - 2) / 2;
  const size = bytes(built.deployedBytecode.object);
  if (size > CODE_BYTES_MAX) {
    fail(`${name} has ${size} bytes of code, more than the ${CODE_BYTES_MAX} that a chain takes (EIP-170)`);
  }
  if (bytes(built.bytecode.object) > INIT_BYTES_MAX) {
    fail(`${name} takes ${bytes(built.bytecode.object)} bytes to create, more than ${INIT_BYTES_MAX} (EIP-3860)`);
  }
  let code = built.bytecode.object.slice(2);
  const linkReferences = {};
  const found = Object.values(built.bytecode.linkReferences ?? {}).flatMap((file) => Object.entries(file));
  for (const [library, places] of found.sort(([a], [b]) => (a < b ? -1 : 1))) {
    linkReferences[library] = places.map((p) => p.start).sort((a, b) => a - b);
    for (const start of linkReferences[library]) {
      code = code.slice(0, 2 * start) + "00".repeat(20) + code.slice(2 * start + 40);
    }
  }
  if (!/^[0-9a-f]*$/.test(code)) fail(`${name} links what its link references do not name`);
  const unknown = Object.keys(linkReferences).filter((l) => CONTRACTS.indexOf(l) < 0 || CONTRACTS.indexOf(l) > CONTRACTS.indexOf(name));
  if (unknown.length) fail(`${name} links ${unknown}, which is not written before it: add it to CONTRACTS`);
  const { compiler, settings } = built.metadata ?? JSON.parse(built.rawMetadata);
  return {
    size,
    text:
      JSON.stringify(
        {
          contract: name,
          solc: compiler.version,
          evmVersion: settings.evmVersion,
          deployedBytecodeBytes: size,
          linkReferences,
          bytecode: "0x" + code,
          abi: built.abi,
        },
        null,
        1,
      ) + "\n",
  };
}

const check = process.argv.includes("--check");
const sizes = process.argv.includes("--sizes");
for (const name of CONTRACTS) {
  const { size, text } = artifact(name);
  const path = join(folder, `${name}.json`);
  if (sizes) {
    console.log(`${name}: ${size} of ${CODE_BYTES_MAX} bytes of code`);
  } else if (!check) {
    writeFileSync(path, text);
    console.log(`wrote artifacts/${name}.json (${size} bytes of code)`);
  } else {
    let committed;
    try {
      committed = readFileSync(path, "utf8");
    } catch {
      fail(`artifacts/${name}.json is missing: run \`make -C contracts artifacts\` and commit it`);
    }
    if (committed !== text) {
      fail(`artifacts/${name}.json is not what the source builds: run \`make -C contracts artifacts\` and commit it`);
    }
    console.log(`artifacts/${name}.json is what the source builds (${size} bytes of code)`);
  }
}
for (const file of sizes ? [] : readdirSync(folder)) {
  if (CONTRACTS.some((name) => file === `${name}.json`)) continue;
  if (check) fail(`artifacts/${file} is of no contract that is deployed: remove it`);
  rmSync(join(folder, file));
}
