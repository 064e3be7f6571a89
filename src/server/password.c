/* Password comparison in constant time. Every byte given is compared with some byte of the secret, whatever was found
 * before, and the differences are gathered in one word that is looked at once, at the end. The length of the secret
 * decides only which of its bytes are looked at, and all of them stay in one or two cache lines. */

#include "server/password.h"

bool password_matches(struct span given, const char *secret) {
    size_t length = strlen(secret), at = 0;
    volatile size_t difference = given.length ^ length; /* volatile: no early end, however clever the compiler */
    for (size_t i = 0; i < given.length; i++) {
        difference |= (size_t)(unsigned char)given.data[i] ^ (size_t)(unsigned char)secret[at];
        at = at < length ? at + 1 : 0; /* the terminator is a byte like any other */
    }
    return difference == 0;
}
