"""BACnet/IP (ANSI/ASHRAE 135): properties of objects are read, and present values are commanded."""
