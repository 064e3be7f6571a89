/* Opens sockets to the server under test. */
#ifndef BENCH_CONNECTION_H
#define BENCH_CONNECTION_H

#include "bench/options.h"

#include <stddef.h>

/* Connects, and as the options say authenticates, switches the protocol and selects the database; waits for the
 * server's answers. Returns a non-blocking socket the caller closes, or -1 with one line in `error`. */
int connection_open(const struct load_options *options, char *error, size_t error_size);

#endif
