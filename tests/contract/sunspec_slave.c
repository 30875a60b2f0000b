/* An independent SunSpec device made of libmodbus: holding registers as a file tells them, one client at a time.
   argv: TCP port, first register, count, file of "register value" lines. Every write that arrives is printed:
   W register value value ... A file that is renewed with SIGUSR1 replaces the registers. */
#include <modbus.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile sig_atomic_t renew = 0;

static void renewed(int number) {
    (void)number;
    renew = 1;
}

static int load(modbus_mapping_t *map, const char *file) {
    unsigned address, value;
    FILE *in = fopen(file, "r");
    if (in == NULL)
        return 0;
    while (fscanf(in, "%u %u", &address, &value) == 2)
        if (address >= (unsigned)map->start_registers &&
            address < (unsigned)(map->start_registers + map->nb_registers))
            map->tab_registers[address - map->start_registers] = (uint16_t)value;
    fclose(in);
    return 1;
}

static void tell(const uint8_t *query, int head) {
    int function = query[head], i, n;
    if (function != 6 && function != 16)
        return;
    printf("W %d", query[head + 1] * 256 + query[head + 2]);
    n = function == 6 ? 1 : query[head + 3] * 256 + query[head + 4];
    for (i = 0; i < n; i++) {
        const uint8_t *word = query + head + (function == 6 ? 3 : 6) + 2 * i;
        printf(" %d", word[0] * 256 + word[1]);
    }
    puts("");
    fflush(stdout);
}

int main(int argc, char **argv) {
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    struct sigaction action = {0};
    modbus_mapping_t *map;
    modbus_t *ctx;
    int listener;
    if (argc < 5)
        return 1;
    action.sa_handler = renewed; /* no SA_RESTART: a waiting call comes back */
    sigaction(SIGUSR1, &action, NULL);
    ctx = modbus_new_tcp("127.0.0.1", atoi(argv[1]));
    map = modbus_mapping_new_start_address(0, 0, 0, 0, atoi(argv[2]), atoi(argv[3]), 0, 0);
    if (ctx == NULL || map == NULL || !load(map, argv[4]) || (listener = modbus_tcp_listen(ctx, 1)) < 0)
        return 1;
    puts("listening");
    fflush(stdout);
    for (;;) {
        int length;
        if (modbus_tcp_accept(ctx, &listener) < 0)
            continue;
        for (;;) {
            length = modbus_receive(ctx, query);
            if (renew) {
                renew = 0;
                load(map, argv[4]);
                puts("renewed");
                fflush(stdout);
            }
            if (length < 0)
                break;
            if (length > 0) {
                tell(query, modbus_get_header_length(ctx));
                modbus_reply(ctx, query, length, map);
            }
        }
        close(modbus_get_socket(ctx));
    }
}
