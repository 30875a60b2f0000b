// A Sparkplug host: every message, decoded by sparkplug-payload, is a line of JSON; lines on stdin are its orders.
// usage: node host.js PORT GROUP [HOST_ID]
"use strict";
const mqtt = require("mqtt");
const sparkplug = require("sparkplug-payload").get("spBv1.0");

const [port, group, hostId] = process.argv.slice(2);
const since = Date.now();
const state = `spBv1.0/STATE/${hostId}`;
const word = (online) => JSON.stringify({ online, timestamp: since });
const options = {
  protocolVersion: 5, clientId: `host-${group}-${hostId || "any"}`, clean: false, reconnectPeriod: 100, keepalive: 5,
  properties: { sessionExpiryInterval: 3600, receiveMaximum: 1000 },
};
if (hostId) options.will = { topic: state, payload: word(false), qos: 1, retain: true };
const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, options);
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const plain = (key, value) => (value && typeof value === "object" && "low" in value && "high" in value
  ? Number(BigInt(value.high >>> 0) * 4294967296n + BigInt(value.low >>> 0)) : value);

client.on("error", () => {});
client.on("connect", () => {
  client.subscribe(`spBv1.0/${group}/#`, { qos: 1 }, () => {
    if (hostId) client.publish(state, word(true), { qos: 1, retain: true });
    say({ type: "listening" });
  });
});
client.on("message", (topic, raw) => {
  const [, , type, node, device] = topic.split("/");
  if (type.endsWith("CMD")) return;
  const payload = sparkplug.decodePayload(raw);
  process.stdout.write(JSON.stringify({ type, node, device, payload }, plain) + "\n");
});
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const { type, node, device, metrics } = JSON.parse(line);
  const topic = ["spBv1.0", group, type, node, ...(device ? [device] : [])].join("/");
  client.publish(topic, sparkplug.encodePayload({ timestamp: Date.now(), metrics }), { qos: 1 });
});
