"""SunSpec devices: registers found by the device's own chain of models, on any Modbus wire."""
