/* See crash.h. In the handler nothing may be allocated or locked: text is put together by hand in a buffer on the
 * handler's stack and written by log_write_in_signal(). Addresses are told as object+offset, which is what addr2line
 * wants. */

#include "server/crash.h"

#include "base/log.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FRAMES = 64, LINE_BYTES = 512, STACK_BYTES = 64 * 1024 };

static const struct {
    int number;
    const char *name;
} signals[] = {{SIGSEGV, "SIGSEGV"}, {SIGBUS, "SIGBUS"}, {SIGFPE, "SIGFPE"}, {SIGILL, "SIGILL"}, {SIGABRT, "SIGABRT"}};

enum { SIGNALS = sizeof(signals) / sizeof(signals[0]) };

static atomic_bool wanted = true;

/* The name the dynamic linker has for the program is its title by now. */
static struct {
    char path[256];
    const void *base;
} program;

struct line {
    char text[LINE_BYTES];
    size_t length;
};

static void put(struct line *line, const char *text) {
    while (*text && line->length + 1 < sizeof(line->text)) line->text[line->length++] = *text++;
    line->text[line->length] = '\0';
}

static void put_hex(struct line *line, uintptr_t value) {
    char digits[2 + 2 * sizeof(value) + 1];
    size_t at = sizeof(digits) - 1;
    digits[at] = '\0';
    do digits[--at] = "0123456789abcdef"[value & 15];
    while (value >>= 4);
    digits[--at] = 'x';
    digits[--at] = '0';
    put(line, digits + at);
}

static void put_frame(void *address) {
    struct line line = {.length = 0};
    Dl_info info = {0};
    put(&line, "  ");
    put_hex(&line, (uintptr_t)address);
    if (dladdr(address, &info) && info.dli_fname) {
        put(&line, " ");
        put(&line, info.dli_fbase == program.base ? program.path : info.dli_fname);
        put(&line, "+");
        put_hex(&line, (uintptr_t)address - (uintptr_t)info.dli_fbase);
        if (info.dli_sname) put(&line, " ");
        if (info.dli_sname) put(&line, info.dli_sname);
    }
    log_write_in_signal(LOG_LEVEL_WARNING, line.text);
}

static void on_crash(int number, siginfo_t *info, void *context) {
    (void)context;
    static atomic_flag reporting = ATOMIC_FLAG_INIT;
    struct line line = {.length = 0};
    void *frames[FRAMES];
    if (atomic_load(&wanted) && !atomic_flag_test_and_set(&reporting)) {
        put(&line, "Terrace " TERRACE_VERSION " crashed by signal ");
        for (unsigned i = 0; i < SIGNALS; i++)
            if (signals[i].number == number) put(&line, signals[i].name);
        if (info->si_code > 0) { /* by the kernel, not by kill() or abort() */
            put(&line, " at address ");
            put_hex(&line, (uintptr_t)info->si_addr);
        }
        put(&line, "; the calls that led there:");
        log_write_in_signal(LOG_LEVEL_WARNING, line.text);
        int count = backtrace(frames, FRAMES);
        for (int i = 0; i < count; i++) put_frame(frames[i]);
        log_write_in_signal(LOG_LEVEL_WARNING, "  (addr2line -f -e OBJECT OFFSET tells function and line)");
    }
    /* SA_RESETHAND has restored the default: the signal now ends the process as if nobody had looked. */
    raise(number);
}

void crash_install(void) {
    /* The first call loads a library, which is not for a signal handler to do. */
    void *frame;
    (void)backtrace(&frame, 1);
    Dl_info own = {0};
    ssize_t length = readlink("/proc/self/exe", program.path, sizeof(program.path) - 1);
    if (length > 0 && dladdr((void *)(uintptr_t)&crash_install, &own)) program.base = own.dli_fbase;
    (void)crash_use_own_stack();
    for (unsigned i = 0; i < SIGNALS; i++) {
        struct sigaction before,
            action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND};
        if (sigaction(signals[i].number, NULL, &before) != 0 || before.sa_handler != SIG_DFL) continue;
        sigaction(signals[i].number, &action, NULL);
    }
}

void crash_report(bool on) {
    atomic_store(&wanted, on);
}

void *crash_use_own_stack(void) {
    stack_t before, stack = {.ss_sp = malloc(STACK_BYTES), .ss_size = STACK_BYTES};
    if (!stack.ss_sp) return NULL;
    if (sigaltstack(NULL, &before) == 0 && (before.ss_flags & SS_DISABLE) && sigaltstack(&stack, NULL) == 0)
        return stack.ss_sp;
    free(stack.ss_sp);
    return NULL;
}

void crash_drop_own_stack(void *stack) {
    if (!stack) return;
    sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL);
    free(stack);
}
