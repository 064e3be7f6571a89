#ifndef TERRACE_SERVER_PASSWORD_H
#define TERRACE_SERVER_PASSWORD_H

/* Comparing a secret with what a client says it is. */

#include "base/span.h"

/* Both are any bytes. The time taken depends on the length of `given` alone, so it tells nothing of the secret, neither
 * its length nor how much of it was right. Pure, any thread. */
bool password_matches(struct span given, struct span secret) __attribute__((warn_unused_result));

#endif
