"""SAE J1939 on a CAN bus: engines and genset controllers are listened to; nothing is sent."""
