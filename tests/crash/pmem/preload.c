/* The shadow (pmem_shadow.h) in a server, preloaded. At each state the server stops until the test has looked at it:
 * the end of the file's name goes into one pipe, a byte comes from another ('y': go on making states).
 *
 * TERRACE_CRASH_POOL, _STATE: files; _SEED, _PER_MILLE: numbers; _ASK, _ANSWER: named pipes; _FORGET: a planted bug: of
 * the flushes behind each state this one is left out. */

#include "tests/crash/pmem/pmem_shadow.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int ask = -1, answer = -1;
static char *ask_path, *answer_path;
static uint64_t forget;

/* A server shows its title where the environment was. */
static char *keep(const char *name) {
    const char *value = getenv(name);
    return strdup(value ? value : "");
}

static bool check(void *ctx, const char *suffix) {
    char reply = 'n';
    (void)ctx;
    if (ask < 0) ask = open(ask_path, O_WRONLY | O_CLOEXEC);
    if (answer < 0) answer = open(answer_path, O_RDONLY | O_CLOEXEC);
    if (write(ask, suffix, strlen(suffix)) < 0 || write(ask, "\n", 1) != 1) return false;
    if (forget) pmem_shadow_forget_flush(forget);
    return read(answer, &reply, 1) == 1 && reply == 'y';
}

__attribute__((constructor)) static void begin(void) {
    const char *seed = getenv("TERRACE_CRASH_SEED"), *per_mille = getenv("TERRACE_CRASH_PER_MILLE");
    if (!seed || !per_mille) return;
    ask_path = keep("TERRACE_CRASH_ASK");
    answer_path = keep("TERRACE_CRASH_ANSWER");
    if (getenv("TERRACE_CRASH_FORGET")) forget = strtoull(getenv("TERRACE_CRASH_FORGET"), NULL, 10);
    pmem_shadow_begin(&(struct pmem_shadow_options){.path = keep("TERRACE_CRASH_POOL"),
                                                    .state = keep("TERRACE_CRASH_STATE"),
                                                    .seed = strtoull(seed, NULL, 10),
                                                    .per_mille = (unsigned)strtoul(per_mille, NULL, 10),
                                                    .check = check});
}
