/* An independent Modbus TCP device: libmodbus, 200 holding registers, one client at a time. argv[1] = port. */
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int port = argc > 1 ? atoi(argv[1]) : 1502;
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", port);
    modbus_mapping_t *map = modbus_mapping_new(0, 0, 200, 0);
    int listener = modbus_tcp_listen(ctx, 1);
    if (listener < 0 || map == NULL)
        return 1;
    puts("listening");
    fflush(stdout);
    for (;;) {
        uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
        if (modbus_tcp_accept(ctx, &listener) < 0)
            continue;
        for (;;) {
            int length = modbus_receive(ctx, query);
            if (length < 0)
                break;
            if (length > 0)
                modbus_reply(ctx, query, length, map);
        }
        close(modbus_get_socket(ctx));
    }
}
