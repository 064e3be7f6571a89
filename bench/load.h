/* `terrace-bench load`: runs a load and reports it. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

/* arguments[0] is the name of the program or subcommand. Returns the exit code: 0, or 1 when the load could not be run
 * to its end (one line on stderr says why). Error replies are part of the report, not a failure. */
int load_main(int count, char **arguments);

#endif
