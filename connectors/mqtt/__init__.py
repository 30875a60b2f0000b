"""MQTT 5: inputs from a broker, and records sent to one."""
