// An OPC UA client made of node-opcua, for a server that shares no code with it.
// node client.js MODULES PKI_FOLDER; one JSON command a line on stdin, answered each by "> " and JSON.
"use strict";
const fs = require("fs");
const path = require("path");
const readline = require("readline");
const [modules, pki] = process.argv.slice(2);
const opcua = require(path.join(modules, "node-opcua"));
let client, session, subscription;
const told = {};

async function connect(c) {
    const manager = new opcua.OPCUACertificateManager({
        rootFolder: path.join(pki, "client_" + c.name), automaticallyAcceptUnknownCertificate: true,
    });
    await manager.initialize();
    client = opcua.OPCUAClient.create({
        applicationName: c.name,
        applicationUri: c.uri,
        certificateFile: path.join(pki, c.name + ".pem"),
        privateKeyFile: path.join(pki, c.name + ".key"),
        clientCertificateManager: manager,
        securityMode: opcua.MessageSecurityMode[c.mode],
        securityPolicy: opcua.SecurityPolicy[c.policy],
        endpointMustExist: c.endpointMustExist !== false,
        connectionStrategy: { maxRetry: 0, initialDelay: 50, maxDelay: 100 },
        requestedSessionTimeout: 20000,
    });
    await client.connect(c.url);
    const identity = c.user === undefined ? { type: opcua.UserTokenType.Anonymous }
        : c.user.certificate === undefined
            ? { type: opcua.UserTokenType.UserName, userName: c.user.name, password: c.user.password }
            : {
                type: opcua.UserTokenType.Certificate,
                certificateData: Buffer.from(c.user.certificate, "base64"),
                privateKey: fs.readFileSync(c.user.key, "utf8"),
            };
    session = await client.createSession(identity);
    return true;
}

async function close() {
    if (session) await session.close(true).catch(() => 0);
    if (client) await client.disconnect().catch(() => 0);
    client = session = subscription = undefined;
    return true;
}

const shown = (d) => ({
    value: d.value ? d.value.value : null,
    status: d.statusCode.name,
    at: d.sourceTimestamp ? d.sourceTimestamp.toISOString() : null,
});

async function answer(c) {
    switch (c.do) {
        case "connect":
            return connect(c);
        case "close":
            return close();
        case "namespaces":
            return session.readNamespaceArray();
        case "read":
            return (await session.read(
                c.ids.map((nodeId) => ({ nodeId, attributeId: opcua.AttributeIds[c.attribute || "Value"] }))
            )).map(shown);
        case "unit": {
            const [data] = await session.read([{ nodeId: c.id + ".EngineeringUnits", attributeId: 13 }]);
            return { id: data.value.value.unitId, name: data.value.value.displayName.text };
        }
        case "find": {
            const result = await session.translateBrowsePath(opcua.makeBrowsePath("ObjectsFolder", c.path));
            return result.targets && result.targets.length ? result.targets[0].targetId.toString() : null;
        }
        case "write": {
            const value = { value: { dataType: opcua.DataType[c.type || "Double"], value: c.value } };
            if (c.at) value.sourceTimestamp = new Date(c.at);
            const status = await session.write({ nodeId: c.id, attributeId: c.attribute || 13, value });
            return status.name;
        }
        case "subscribe": {
            subscription = await session.createSubscription2({
                requestedPublishingInterval: 50, requestedLifetimeCount: 100, requestedMaxKeepAliveCount: 5,
                maxNotificationsPerPublish: 0, publishingEnabled: true, priority: 0,
            });
            for (const id of c.ids) {
                told[id] = [];
                const item = await subscription.monitor(
                    { nodeId: id, attributeId: 13 }, { samplingInterval: 50, queueSize: 10 },
                    opcua.TimestampsToReturn.Both
                );
                item.on("changed", (data) => told[id].push(shown(data)));
            }
            return subscription.publishingInterval;
        }
        case "told":
            return told[c.id];
        case "call":
            return (await session.call({ objectId: "i=2253", methodId: "i=11492", inputArguments: [] })).statusCode.name;
    }
    throw new Error("unknown command " + c.do);
}

async function main() {
    console.log("> true");
    for await (const line of readline.createInterface({ input: process.stdin })) {
        let said;
        try {
            said = await answer(JSON.parse(line));
        } catch (error) {
            said = { error: String(error.message || error) };
        }
        console.log("> " + JSON.stringify(said));
    }
    await close();
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});
