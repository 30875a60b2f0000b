// A BACnet/IP device made of @bacnet-js/client, which shares no code with the client under test: it decodes
// requests and encodes answers; the objects and their priority arrays are here.
// node server.js MODULES PORT OBJECTS_JSON
// OBJECTS_JSON: {"type,instance": {property: [{type, value}, ...]}}; with property 87 an object is commandable.
// Tells "> true" when it is up; then takes one JSON command a line on stdin and answers each, "> " and JSON.
"use strict";
const path = require("path");
const readline = require("readline");
const [modules, port, given] = process.argv.slice(2);
const Client = require(path.join(modules, "@bacnet-js", "client"));
const objects = JSON.parse(given);
const bacnet = new (Client.default || Client)({ port: Number(port), interface: "127.0.0.1", apduTimeout: 1000 });

const [PRESENT_VALUE, PRIORITY_ARRAY, RELINQUISH_DEFAULT, ALL_ARRAY] = [85, 87, 104, 4294967295];
const [OBJECT, PROPERTY, SERVICES] = [1, 2, 5];
const [UNKNOWN_OBJECT, UNKNOWN_PROPERTY, BAD_INDEX, BAD_TYPE, NOT_KNOWN] = [31, 32, 42, 9, 67];
let refusing = null, silent = false, multiple = true, most = 1e9;
const seen = { one: 0, many: 0, writes: [] };

const keyOf = (id) => `${id.type},${id.instance}`;

function told(id, property) {
    const object = objects[keyOf(id)];
    if (object === undefined) return { error: [OBJECT, UNKNOWN_OBJECT] };
    const values = object[property.id];
    if (values === undefined) return { error: [PROPERTY, UNKNOWN_PROPERTY] };
    if (property.index === ALL_ARRAY || property.index === undefined) return { values };
    if (property.index === 0) return { values: [{ type: 2, value: values.length }] };
    if (property.index > values.length) return { error: [PROPERTY, BAD_INDEX] };
    return { values: [values[property.index - 1]] };
}

const copied = (values) => values.map((v) => ({ ...v, value: v.value === "NaN" ? NaN : v.value }));

bacnet.on("readProperty", (content) => {
    const { header, invokeId, service, payload } = content;
    if (silent) return;
    seen.one += 1;
    const found = told(payload.objectId, payload.property);
    if (found.error) return bacnet.errorResponse(header.sender, service, invokeId, ...found.error);
    bacnet.readPropertyResponse(header.sender, invokeId, payload.objectId, payload.property, copied(found.values));
});

bacnet.on("readPropertyMultiple", (content) => {
    const { header, invokeId, service, payload } = content;
    if (silent) return;
    seen.many += 1;
    if (!multiple) return bacnet.errorResponse(header.sender, service, invokeId, SERVICES, NOT_KNOWN);
    const count = payload.properties.reduce((n, p) => n + p.properties.length, 0);
    if (count > most) return bacnet.errorResponse(header.sender, service, invokeId, SERVICES, 51);
    bacnet.readPropertyMultipleResponse(header.sender, invokeId, payload.properties.map((one) => ({
        objectId: one.objectId,
        values: one.properties.map((property) => {
            const found = told(one.objectId, property);
            if (!found.error) return { property, value: copied(found.values) };
            const [errorClass, errorCode] = found.error;
            return { property, value: [{ value: { type: "BacnetError", errorClass, errorCode } }] };
        }),
    })));
});

bacnet.on("writeProperty", (content) => {
    const { header, invokeId, service, payload } = content;
    if (silent) return;
    const { property, value, priority } = payload.value;
    seen.writes.push([keyOf(payload.objectId), property.id, value[0].type, value[0].value, priority]);
    if (refusing) return bacnet.errorResponse(header.sender, service, invokeId, ...refusing);
    const found = told(payload.objectId, property);
    if (found.error) return bacnet.errorResponse(header.sender, service, invokeId, ...found.error);
    const object = objects[keyOf(payload.objectId)];
    const [type, null_] = [object[PRESENT_VALUE][0].type, value[0].type === 0];
    if (!null_ && value[0].type !== type)
        return bacnet.errorResponse(header.sender, service, invokeId, PROPERTY, BAD_TYPE);
    command(object, priority, null_ ? { type: 0, value: null } : { type, value: value[0].value });
    bacnet.simpleAckResponse(header.sender, service, invokeId);
});

function command(object, priority, value) {
    if (object[PRIORITY_ARRAY] === undefined) {
        object[PRESENT_VALUE] = [value];
        return;
    }
    object[PRIORITY_ARRAY][priority - 1] = value;
    const first = object[PRIORITY_ARRAY].find((v) => v.type !== 0);
    object[PRESENT_VALUE] = [first === undefined ? object[RELINQUISH_DEFAULT][0] : first];
}

const orders = {
    put: (o) => { objects[o.object][o.property] = o.values; return true; },
    drop: (o) => { delete objects[o.object][o.property]; return true; },
    get: (o) => objects[o.object][o.property],
    command: (o) => { command(objects[o.object], o.priority, o.value); return true; },
    refuse: (o) => { refusing = o.error; return true; },
    silent: (o) => { silent = o.value; return true; },
    multiple: (o) => { multiple = o.value; return true; },
    most: (o) => { most = o.value; return true; },
    seen: () => {
        const now = { ...seen, writes: [...seen.writes] };
        seen.one = seen.many = seen.writes.length = 0;
        return now;
    },
};

bacnet.on("listening", () => {
    console.log("> true");
    readline.createInterface({ input: process.stdin }).on("line", (line) => {
        const order = JSON.parse(line);
        console.log("> " + JSON.stringify(orders[order.do](order)));
    }).on("close", () => process.exit(0));
});
