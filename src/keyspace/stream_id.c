/* IDs as text. Nearly all are two plain numbers with a dash; the other spellings that clients may send are those that
 * Redis takes, which reads what is not a canonical number by strtoull(): a sign, leading blanks and zeros. */

#include "keyspace/stream_id.h"

#include <errno.h>
#include <stdlib.h>

enum { ID_TEXT_ACCEPTED = 127 };

size_t stream_id_format(struct stream_id id, char text[STREAM_ID_TEXT_MAX]) {
    size_t length = number_format_u64(id.ms, text);
    text[length++] = '-';
    return length + number_format_u64(id.sequence, text + length);
}

/* `text` is terminated. */
static bool parse_number(const char *text, uint64_t *value) {
    struct span whole = span_of_text(text);
    int64_t number;
    if (number_parse_u64(whole, value)) return true;
    if (whole.length == 0 || number_parse_i64(whole, &number)) return false;
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

bool stream_id_parse(struct span text, enum stream_id_form form, uint64_t missing_sequence, struct stream_id *id,
                     bool *is_open) {
    char copy[ID_TEXT_ACCEPTED + 1];
    if (text.length > ID_TEXT_ACCEPTED) return false;
    memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';
    if ((copy[0] == '-' || copy[0] == '+') && copy[1] == '\0') {
        if (form != STREAM_ID_RANGE) return false;
        *id = copy[0] == '-' ? STREAM_ID_MIN : STREAM_ID_MAX;
        return true;
    }
    struct stream_id parsed = {0, missing_sequence};
    bool open = false;
    char *dash = strchr(copy, '-');
    if (dash) {
        *dash++ = '\0';
        open = form == STREAM_ID_NEW && dash[0] == '*' && dash[1] == '\0';
        if (open)
            parsed.sequence = 0;
        else if (!parse_number(dash, &parsed.sequence))
            return false;
    }
    if (!parse_number(copy, &parsed.ms)) return false;
    *id = parsed;
    if (is_open) *is_open = open;
    return true;
}
