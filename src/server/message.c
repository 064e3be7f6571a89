/* See message.h. */

#include "server/message.h"

#include "base/number.h"

#include <assert.h>
#include <stdlib.h>

struct message *message_create(size_t length) {
    if (length > UINT32_MAX) return NULL;
    struct message *message = malloc(sizeof(*message) + length);
    if (!message) return NULL;
    *message = (struct message){.length = (uint32_t)length};
    atomic_init(&message->references, 1);
    return message;
}

void message_release(struct message *message) {
    if (atomic_fetch_sub_explicit(&message->references, 1, memory_order_acq_rel) == 1) free(message);
}

static size_t print_header(char *at, char kind, size_t value) {
    *at = kind;
    size_t length = 1 + number_format_i64((int64_t)value, at + 1);
    memcpy(at + length, "\r\n", 2);
    return length + 2;
}

struct message *message_of(const struct span *elements, unsigned count) {
    char header[NUMBER_TEXT_MAX + 3];
    size_t length = print_header(header, '*', count);
    for (unsigned i = 0; i < count; i++)
        length += print_header(header, '$', elements[i].length) + elements[i].length + 2;
    struct message *message = message_create(length);
    if (!message) return NULL;
    char *end = message->bytes + print_header(message->bytes, '*', count);
    for (unsigned i = 0; i < count; i++) {
        end += print_header(end, '$', elements[i].length);
        memcpy(end, elements[i].data, elements[i].length);
        memcpy(end + elements[i].length, "\r\n", 2);
        end += elements[i].length + 2;
    }
    assert(end == message->bytes + length);
    return message;
}

/* ---- mailboxes ---- */

struct mailbox *mailbox_create(void *owner, uint64_t id, unsigned worker) {
    struct mailbox *mailbox = malloc(sizeof(*mailbox));
    if (!mailbox) return NULL;
    *mailbox = (struct mailbox){.worker = worker, .id = id, .owner = owner};
    atomic_init(&mailbox->references, 1);
    atomic_init(&mailbox->closed, false);
    return mailbox;
}

void mailbox_shut(struct mailbox *mailbox) {
    atomic_store_explicit(&mailbox->closed, true, memory_order_release);
}

void mailbox_close(struct mailbox *mailbox) {
    mailbox->owner = NULL;
    atomic_store_explicit(&mailbox->closed, true, memory_order_release);
    mailbox_release(mailbox);
}

void mailbox_release(struct mailbox *mailbox) {
    if (atomic_fetch_sub_explicit(&mailbox->references, 1, memory_order_acq_rel) == 1) free(mailbox);
}
