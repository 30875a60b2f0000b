"""A meter made of gurux_dlms 1.0.203. Its server does not run as it comes; what was mended says so below.

Usage: meter.py PORT none|low. It says `ready` when it listens, and takes one client at a time. What it
answers is encoded by gurux_dlms alone. Not used, since it is wrong there: ciphering (an AARE without its
system title), blocks (bytes behind the second that are not in its length), errors in lists, and an error
without the number of its request.
"""
# mypy: disable-error-code="no-untyped-call"

import socket
import sys
from datetime import UTC, datetime

from gurux_dlms import GXDateTime, GXServerReply
from gurux_dlms.enums import AccessMode, DataType, InterfaceType, MethodAccessMode, SourceDiagnostic, Unit
from gurux_dlms.objects import (
    GXDLMSAssociationLogicalName,
    GXDLMSClock,
    GXDLMSData,
    GXDLMSExtendedRegister,
    GXDLMSRegister,
)
from gurux_dlms.secure import GXDLMSSecureServer
from gurux_dlms.ValueEventArgs import ValueEventArgs

PASSWORD = b"Rv-0815-x"
CAPTURED = datetime(2026, 3, 1, 11, 45, tzinfo=UTC)
ValueEventArgs.isSkipMaxPduSize = True  # read under this name, written under another


class Reply(GXServerReply):  # type: ignore[misc]
    """With the methods that the server calls; it has attributes alone."""

    def setReply(self, value):
        self.reply = value

    def getConnectionInfo(self):
        return self.connectionInfo


class Meter(GXDLMSSecureServer):  # type: ignore[misc]
    """Everything may be read; a password is looked at where one is wanted."""

    def __init__(self, way):
        super().__init__(True, InterfaceType.WRAPPER)
        self.way = way

    def isTarget(self, server, client):
        return server == 1 and client == 32

    def onValidateAuthentication(self, authentication, password):
        wanted = 1 if self.way == "low" else 0
        if int(authentication) != wanted:
            return SourceDiagnostic(11)
        if wanted and bytes(password) != PASSWORD:
            return SourceDiagnostic.AUTHENTICATION_FAILURE
        return SourceDiagnostic.NONE

    def onGetAttributeAccess(self, args):
        return AccessMode.READ

    def onGetMethodAccess(self, args):
        return MethodAccessMode.ACCESS

    def onFindObject(self, kind, sn, ln):
        return None

    def nothing(self, *args):
        """Of the server's own, which are abstract or were forgotten."""

    onPreGet = onPostGet = onPreRead = onPostRead = onPreWrite = onPostWrite = nothing
    onConnected = onInvalidConnection = onDisconnected = onPreAction = onPostAction = notifyRead = nothing

    def getTransaction(self):
        return self.transaction

    def setTransaction(self, value):
        self.transaction = value


def register(code, value, kind, scaler, unit, made=GXDLMSRegister):
    one = made(code)
    one.value, one.scaler, one.unit = value, scaler, unit
    one.setDataType(2, kind)
    return one


def objects():
    yield register("1.0.16.7.0.255", -12345, DataType.INT32, 0.1, Unit.ACTIVE_POWER)
    yield register("1.0.1.8.0.255", 123456789, DataType.UINT64, 1, Unit.ACTIVE_ENERGY)
    yield register("1.0.32.7.0.255", 2301, DataType.UINT16, 0.1, Unit.VOLTAGE)
    yield register("1.0.14.7.0.255", 50.02, DataType.FLOAT32, 1, Unit.FREQUENCY)
    peak = register("1.0.1.6.0.255", 8825, DataType.UINT32, 10, Unit.ACTIVE_POWER, GXDLMSExtendedRegister)
    peak.status, peak.captureTime = 0, GXDateTime(CAPTURED)
    peak.setDataType(4, DataType.UINT8)
    yield peak
    for code, value, kind in (
        ("0.0.96.1.0.255", b"4711", DataType.OCTET_STRING),
        ("0.0.42.0.0.255", b"GRX0000001234567" * 10, DataType.OCTET_STRING),
        ("0.0.96.10.1.255", 3, DataType.UINT8),
    ):
        data = GXDLMSData(code)
        data.value = value
        data.setDataType(2, kind)
        yield data
    clock = GXDLMSClock("0.0.1.0.0.255")
    clock.time = GXDateTime(datetime.now(UTC))
    yield clock


def made(way):
    meter = Meter(way)
    association = GXDLMSAssociationLogicalName()
    for one in (*objects(), association):
        meter.items.append(one)
        association.objectList.append(one)
    meter.initialized = True  # its own initialize() appends a list where an object belongs
    return meter


def main(port, way):
    listening = socket.create_server(("127.0.0.1", port))
    print("ready", flush=True)
    while True:
        client, _ = listening.accept()
        meter = made(way)  # anew: one that was released keeps what it has answered
        with client:
            while data := client.recv(4096):
                reply = Reply(bytearray(data))
                meter.handleRequest(reply)
                if reply.reply:
                    client.sendall(bytes(reply.reply))


main(int(sys.argv[1]), sys.argv[2])
