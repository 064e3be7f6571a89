/* The first process of the emulated host: has the checks done that the host was made for, and powers it off.
 *
 * Its arguments come from the kernel's command line, from tests/lab/run: the name of the host, and what it needs.
 *
 *     flat    node 0 with two CPUs, node 1 with memory alone
 *     wide    nodes 0 and 1 with a CPU each, node 2 with memory alone
 *     far     as flat, for records that move to the memory alone and back
 *     power first|again|last ACKNOWLEDGED
 *             as flat, with persistent memory, for a pool that outlives power cuts
 *
 * The last line on the console is "done". */

#include "tests/lab/guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    mount_all();
    const char *host = argc > 1 ? argv[1] : "";
    if (strcmp(host, "flat") == 0)
        check_flat();
    else if (strcmp(host, "wide") == 0)
        check_wide();
    else if (strcmp(host, "far") == 0)
        check_far();
    else if (strcmp(host, "power") == 0 && argc == 4)
        check_power(strcmp(argv[2], "first") == 0, strcmp(argv[2], "last") == 0, (unsigned)strtoul(argv[3], NULL, 10));
    else
        check(false, "there is no host '%s'", host);
    printf("done\n");
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
    return 1;
}
