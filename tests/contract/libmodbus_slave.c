/* An independent Modbus device made of libmodbus: 200 holding registers, 40 coils and 40 discrete
   inputs of which every third is on, one client at a time.
   argv: a TCP port, or a serial port and a unit id. */
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void serve(modbus_t *ctx, modbus_mapping_t *map, int for_ever) {
    for (;;) {
        uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
        int length = modbus_receive(ctx, query);
        if (length > 0)
            modbus_reply(ctx, query, length, map);
        else if (length < 0 && !for_ever)
            return;
    }
}

int main(int argc, char **argv) {
    int serial = argc > 2;
    modbus_t *ctx = serial ? modbus_new_rtu(argv[1], 19200, 'N', 8, 1)
                           : modbus_new_tcp("127.0.0.1", argc > 1 ? atoi(argv[1]) : 1502);
    modbus_mapping_t *map = modbus_mapping_new(40, 40, 200, 0);
    int listener = -1;
    if (ctx == NULL || map == NULL)
        return 1;
    if (serial && (modbus_set_slave(ctx, atoi(argv[2])) < 0 || modbus_connect(ctx) < 0))
        return 1;
    if (!serial && (listener = modbus_tcp_listen(ctx, 1)) < 0)
        return 1;
    for (int i = 0; i < 40; i += 3)
        map->tab_input_bits[i] = 1;
    puts("listening");
    fflush(stdout);
    if (serial)
        serve(ctx, map, 1);
    for (;;) {
        if (modbus_tcp_accept(ctx, &listener) < 0)
            continue;
        serve(ctx, map, 0);
        close(modbus_get_socket(ctx));
    }
}
