#ifndef TERRACE_SERVER_LOLWUT_H
#define TERRACE_SERVER_LOLWUT_H

/* A terraced hill under the stars, another one for each seed, with the version below it. Pure. */

#include "server/text.h"

void lolwut_draw(struct text *text, uint64_t seed);

#endif
