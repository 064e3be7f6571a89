/* Secrets among the arguments of commands. Which arguments they are depends on those before them, as for the parser
 * of the command itself; where the client made a mistake, what could have been meant as a secret is hidden too. */

#include "server/redact.h"

static const struct span hidden = {"(redacted)", 10};

/* Directives that no one may read over another's shoulder. */
static const char *const secret_directives[] = {"requirepass", "masterauth", "masteruser", "tls-key-file-pass",
                                                "tls-client-key-file-pass"};

static bool is_secret_directive(struct span name) {
    for (size_t i = 0; i < sizeof(secret_directives) / sizeof(secret_directives[0]); i++)
        if (span_is_word(name, secret_directives[i])) return true;
    return false;
}

/* HELLO version [AUTH user password] [SETNAME name]. */
static bool is_secret_of_hello(const struct call *call, uint32_t index) {
    for (uint32_t i = 2; i < index;) {
        if (call_is(call, i, "auth")) {
            if (index <= i + 2) return true;
            i += 3;
        } else {
            i += call_is(call, i, "setname") ? 2 : 1;
        }
    }
    return false;
}

/* MIGRATE host port key database timeout [COPY] [REPLACE] [AUTH password | AUTH2 user password] [KEYS key...]. */
static bool is_secret_of_migrate(const struct call *call, uint32_t index) {
    for (uint32_t i = 6; i < index;) {
        uint32_t secrets = call_is(call, i, "auth") ? 1 : call_is(call, i, "auth2") ? 2 : 0;
        if (call_is(call, i, "keys")) return false;
        if (index <= i + secrets) return true;
        i += 1 + secrets;
    }
    return false;
}

static bool is_secret(const struct call *call, uint32_t index) {
    const char *name = call->command->full_name;
    if (strcmp(name, "auth") == 0) return index > 0;
    if (strcmp(name, "hello") == 0) return is_secret_of_hello(call, index);
    if (strcmp(name, "migrate") == 0) return is_secret_of_migrate(call, index);
    if (strcmp(name, "config|set") == 0)
        return index >= 3 && index % 2 == 1 && is_secret_directive(call->argv[index - 1]);
    return false;
}

struct span redact_argument(const struct call *call, uint32_t index) {
    return is_secret(call, index) ? hidden : call->argv[index];
}
