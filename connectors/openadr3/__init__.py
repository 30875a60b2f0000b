"""VTNs of OpenADR 3 that bound the plant: programs and events are asked for, as a VEN."""
