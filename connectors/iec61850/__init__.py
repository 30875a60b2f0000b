"""IEC 61850 devices over MMS: our own transport, the codec of the package open61850."""
