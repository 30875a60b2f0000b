"""IEC 60870-5-104 on the wire: frames, the order of frames on a connection, ASDUs and times. Pure."""
