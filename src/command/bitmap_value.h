#ifndef TERRACE_COMMAND_BITMAP_VALUE_H
#define TERRACE_COMMAND_BITMAP_VALUE_H

/* What SETBIT and BITFIELD share: bit offsets as arguments, and strings that grow to hold a bit. */

#include "command/string_value.h"

#define ERROR_BIT_OFFSET "ERR bit offset is not an integer or out of range"

/* Parses argument `index` as the position of a bit that a value may have. `field_width` is not 0 where "#n" is allowed:
 * the n-th field of so many bits. False: ERROR_BIT_OFFSET is composed. */
bool bitmap_offset_parse(struct call *call, uint32_t index, unsigned field_width, uint64_t *offset)
    __attribute__((warn_unused_result));

/* The bytes of a value that has at least `length` of them, to be changed: string_edit(), but a longer value keeps its
 * length. *held is how many there are. NULL: no memory, or a client asks for too much; the error is composed. */
uint8_t *bitmap_edit(struct call *call, const struct key *key, struct lookup *lookup, size_t length, size_t *held)
    __attribute__((warn_unused_result));

/* Whether a write to the first `length` bytes can be left out if it changes none of them: nothing has to grow. */
bool bitmap_has_room(const struct lookup *lookup, size_t length);
/* For such a write: watchers hear nothing of it, but OBJECT ENCODING says raw, as after any write to a string. The
 * value is made `length` bytes long if it is shorter. False: no memory; the error is composed. */
bool bitmap_settle(struct call *call, const struct key *key, struct lookup *lookup, size_t length)
    __attribute__((warn_unused_result));

#endif
