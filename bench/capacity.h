/* The capacity subcommand. */
#ifndef BENCH_CAPACITY_H
#define BENCH_CAPACITY_H

/* Runs `terrace-bench capacity`; arguments[0] is the subcommand. Returns the exit code. */
int capacity_main(int count, char **arguments);

#endif
