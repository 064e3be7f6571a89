/* The connection that asks the server about itself, in blocking calls. One thread uses it. */
#ifndef BENCH_CAPACITY_CONTROL_H
#define BENCH_CAPACITY_CONTROL_H

#include "bench/options.h"

#include <stdbool.h>
#include <stddef.h>

enum { CONTROL_REPLY_MAX = 1 << 20 /* more than any INFO */ };

struct control {
    int fd;
    double timeout_seconds;
    size_t length;                    /* bytes received */
    char received[CONTROL_REPLY_MAX]; /* the reply as it came */
    char text[CONTROL_REPLY_MAX];     /* the reply as text, see control_ask */
    char error[512];                  /* one line, when something failed */
};

/* NULL with one line in `error`. The caller closes it. */
struct control *control_open(const struct load_options *options, double timeout_seconds, char *error,
                             size_t error_size);
void control_close(struct control *control);

/* Sends one command (a line of words separated by spaces) and waits for its reply. The text of it, valid until the next
 * call: a simple string, number or bulk as it is, an array's elements each ended by a newline. NULL when that is an
 * error, too long, or does not come; control->error says so. */
const char *control_ask(struct control *control, const char *command);

#endif
