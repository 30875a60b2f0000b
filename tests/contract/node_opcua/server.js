// An OPC UA server made of node-opcua, which shares no code with the client under test.
// node server.js MODULES PKI_FOLDER PORT POINTS_JSON NAMESPACE [BEFORE]
// BEFORE: namespaces of others that are registered first, so that ours has another index.
// Tells "> true" when it is up; then takes one JSON command a line on stdin and answers each, "> " and JSON.
"use strict";
const path = require("path");
const readline = require("readline");
const [modules, pki, port, points, uri, before] = process.argv.slice(2);
const opcua = require(path.join(modules, "node-opcua"));

const BAD = opcua.StatusCodes.BadSensorFailure;
const values = JSON.parse(points); // browse name -> {type, value}
const nodes = {};

async function main() {
    const manager = new opcua.OPCUACertificateManager({
        rootFolder: path.join(pki, "peer"), automaticallyAcceptUnknownCertificate: false,
    });
    await manager.initialize();
    const users = new opcua.OPCUACertificateManager({
        rootFolder: path.join(pki, "users"), automaticallyAcceptUnknownCertificate: false,
    });
    await users.initialize();
    const server = new opcua.OPCUAServer({
        port: Number(port),
        hostname: "127.0.0.1",
        resourcePath: "/plant",
        serverInfo: { applicationUri: "urn:test:node:server" },
        buildInfo: { productName: "peer" },
        serverCertificateManager: manager,
        userCertificateManager: users,
        certificateFile: path.join(pki, "server.pem"),
        privateKeyFile: path.join(pki, "server.key"),
        securityPolicies: [
            opcua.SecurityPolicy.Basic256Sha256,
            opcua.SecurityPolicy.Aes128_Sha256_RsaOaep,
            opcua.SecurityPolicy.Aes256_Sha256_RsaPss,
        ],
        securityModes: [opcua.MessageSecurityMode.SignAndEncrypt, opcua.MessageSecurityMode.Sign],
        allowAnonymous: false,
        userManager: { isValidUser: (user, password) => user === "ems" && password === "secret" },
        serverCapabilities: { maxSessions: 20, maxHistoryContinuationPoints: 5 },
    });
    await server.initialize();
    const space = server.engine.addressSpace;
    for (let i = 0; i < Number(before || 0); i++) space.registerNamespace("urn:somebody:else:" + i);
    space.registerNamespace(uri);
    space.registerNamespace(uri + ":types");
    for (const name of Object.keys(values)) nodes[name] = added(space, name, "s=dev." + name);
    await server.start();
    console.log("> true");
    for await (const line of readline.createInterface({ input: process.stdin })) {
        console.log("> " + JSON.stringify(await answer(server, space, JSON.parse(line))));
    }
    await server.shutdown(0);
}

const namespaceOf = (space) => space.getNamespace(uri);

function meterOf(space) { // Objects/Plant/Meter, the last named in a namespace of its own
    const types = space.getNamespace(uri + ":types");
    const there = types.findNode("s=meter");
    if (there) return there;
    const plant = namespaceOf(space).addFolder(space.rootFolder.objects, { browseName: "Plant/1" });
    return types.addObject({ organizedBy: plant, browseName: "Meter", nodeId: "s=meter" });
}

function added(space, name, nodeId) {
    const row = values[name];
    return namespaceOf(space).addVariable({
        componentOf: meterOf(space),
        browseName: name,
        nodeId,
        dataType: row.type,
        minimumSamplingInterval: 20,
        value: { dataType: opcua.DataType[row.type], value: row.value },
    });
}

async function answer(server, space, command) {
    const node = nodes[command.name];
    switch (command.do) {
        case "get":
            return node.readValue().value.value;
        case "put": {
            const data = { dataType: opcua.DataType[values[command.name].type], value: command.value };
            const at = command.at === undefined ? new Date() : new Date(command.at);
            node.setValueFromSource(data, command.bad ? BAD : opcua.StatusCodes.Good, at);
            return true;
        }
        case "writable":
            node.accessLevel = node.userAccessLevel = opcua.makeAccessLevelFlag(
                command.value ? "CurrentRead | CurrentWrite" : "CurrentRead"
            );
            return true;
        case "sessions":
            return server.engine.currentSessionCount;
        case "close_sessions": { // as an operator of the server would
            const open = Object.values(server.engine._sessions);
            for (const s of open) server.engine.closeSession(s.authenticationToken, true, "Terminated");
            return open.length;
        }
        case "delete_subscriptions": {
            let count = 0;
            for (const s of Object.values(server.engine._sessions)) {
                for (const sub of s.publishEngine.subscriptions) {
                    s.deleteSubscription(sub.id);
                    count++;
                }
            }
            return count;
        }
        case "move": // another node where this one was
            namespaceOf(space).deleteNode(node);
            nodes[command.name] = added(space, command.name, command.to);
            return true;
        case "keep": { // a history: [milliseconds, value, is good]
            space.installHistoricalDataNode(node, { maxOnlineValues: 100000 });
            const type = opcua.DataType[values[command.name].type];
            for (const [at, value, good] of command.samples) {
                const data = { dataType: type, value };
                node.setValueFromSource(data, good ? opcua.StatusCodes.Good : BAD, new Date(at));
            }
            return true;
        }
        case "namespace":
            return space.registerNamespace(command.uri).index;
    }
    throw new Error("unknown command " + command.do);
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});
