/* terrace-bench: picks the subcommand. Without one, the arguments are those of `load`. */
#include "bench/capacity.h"
#include "bench/load.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct subcommand {
    const char *name;
    int (*run)(int count, char **arguments);
};

static const struct subcommand subcommands[] = {
    {"load", load_main},
    {"capacity", capacity_main},
};

int main(int count, char **arguments) {
    if (count < 2 || arguments[1][0] == '-') return load_main(count, arguments);
    for (size_t i = 0; i < sizeof(subcommands) / sizeof(subcommands[0]); i++)
        if (strcmp(arguments[1], subcommands[i].name) == 0) return subcommands[i].run(count - 1, arguments + 1);
    fprintf(stderr, "terrace-bench: no subcommand '%s'; try --help\n", arguments[1]);
    return 1;
}
