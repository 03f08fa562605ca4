// What the tests share: clients of nodes, transactions that nobody else sends, and proofs.
"use strict";

const crypto = require("node:crypto");
const { Comet38Client, HttpClient, WebsocketClient } = require("@cosmjs/tendermint-rpc");

const HOSTS = process.env.HOSTS.split(",");

let count = 0;

/** Ends the process behind a file's tests: a WebSocket client of cosmjs connects anew when it is disconnected. */
function end() {
  setTimeout(() => process.exit(), 200);
}

/** By HTTP to a node, counted from 0. */
function byHttp(node = 0) {
  return Comet38Client.create(new HttpClient(`http://${HOSTS[node]}`));
}

/** By WebSocket. */
function bySocket(node = 0) {
  return Comet38Client.create(new WebsocketClient(`ws://${HOSTS[node]}`, (error) => { throw error; }));
}

function utf8(text) {
  return new TextEncoder().encode(text);
}

/** A pair that no other test uses. */
function pair() {
  count += 1;
  const [key, value] = [`cosmjs-${process.pid}-${count}`, `value-${count}`];
  return { key, value, tx: utf8(`${key}=${value}`) };
}

function sha256(...parts) {
  const hash = crypto.createHash("sha256");
  parts.forEach((part) => hash.update(part));
  return hash.digest();
}

/** RFC 6962's inner node. */
function above(left, right) {
  return sha256(Buffer.from([1]), left, right);
}

/** The root that a path of a Merkle proof leads to. */
function root(index, total, leaf, aunts) {
  if (total === 1) return leaf;
  const last = aunts[aunts.length - 1];
  const left = 2 ** Math.floor(Math.log2(total - 1));
  const rest = aunts.slice(0, -1);
  return index < left
    ? above(root(index, left, leaf, rest), last)
    : above(last, root(index - left, total - left, leaf, rest));
}

/** Waits until the condition holds; answers what it gave. */
async function until(condition, what) {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`still not: ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

module.exports = { HOSTS, byHttp, bySocket, end, pair, root, sha256, until, utf8 };
