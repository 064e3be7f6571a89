/* Password comparison in constant time. Every byte given is compared with some byte of the secret, whatever was found
 * before, and the differences are gathered in one word that is looked at once, at the end. The length of the secret
 * decides only which of its bytes are looked at, and all of them stay in one or two cache lines. */

#include "server/password.h"

bool password_matches(struct span given, struct span secret) {
    size_t at = 0;
    volatile size_t difference = given.length ^ secret.length; /* volatile: no early end, however clever the compiler */
    for (size_t i = 0; i < given.length; i++) {
        /* Behind the last byte stands a zero, so that an empty secret has one to compare with as well. */
        unsigned char byte = at < secret.length ? (unsigned char)secret.data[at] : 0;
        difference |= (size_t)(unsigned char)given.data[i] ^ (size_t)byte;
        at = at < secret.length ? at + 1 : 0;
    }
    return difference == 0;
}
