/* See database_argument.h. */

#include "command/database_argument.h"

#define ERROR_NOT_INT     "ERR value is out of range, value must between -2147483648 and 2147483647"
#define ERROR_NO_DATABASE "ERR DB index is out of range"

bool database_exists(struct call *call, int64_t number) {
    if (number >= 0 && number < call->view.keyspace->database_count) return true;
    reply_error(call->reply, ERROR_NO_DATABASE);
    return false;
}

bool database_argument(struct call *call, uint32_t index, uint32_t *database) {
    int64_t number;
    if (!call_integer(call, index, &number)) return false;
    if (number < INT32_MIN || number > INT32_MAX) {
        reply_error(call->reply, ERROR_NOT_INT);
        return false;
    }
    if (!database_exists(call, number)) return false;
    *database = (uint32_t)number;
    return true;
}
