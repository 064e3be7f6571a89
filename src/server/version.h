#ifndef TERRACE_SERVER_VERSION_H
#define TERRACE_SERVER_VERSION_H

/* The Redis whose commands, replies and INFO fields this server has: what INFO and HELLO answer to clients that ask
 * whether they may use a feature. Our own version is TERRACE_VERSION, defined by the build. */
#define COMPATIBLE_VERSION "7.2.4"

#endif
