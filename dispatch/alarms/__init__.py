"""Alarms to ISA-18.2 / IEC 62682: which conditions hold, the state machine, what people do to them."""
