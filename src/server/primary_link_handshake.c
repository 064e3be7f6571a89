/* What a replica and its primary say before anything is copied: see link_handshake(). An answer that is an error ends
 * the try where Redis's replica ends it too; older primaries know nothing of the finer points, which is no fault. */

#include "base/log.h"
#include "base/number.h"
#include "net/socket.h"
#include "server/primary_link_private.h"
#include "server/server.h"

#include <stdio.h>
#include <string.h>

static bool ask(struct primary_link *link, const char *const *words, char answer[LINK_LINE_MAX], char *why) {
    return link_send(link, words, why) && link_line(link, answer, why);
}

static bool begins_with(const char *text, const char *beginning) {
    return strncmp(text, beginning, strlen(beginning)) == 0;
}

/* A primary that wants a password says so already here. */
static bool greet(struct primary_link *link, char *why) {
    char answer[LINK_LINE_MAX];
    if (!ask(link, (const char *const[]){"PING", NULL}, answer, why)) return false;
    if (answer[0] != '+' && !begins_with(answer, "-NOAUTH") && !begins_with(answer, "-NOPERM") &&
        !begins_with(answer, "-ERR operation not permitted")) {
        snprintf(why, LINK_LINE_MAX, "Error reply to PING from master: '%.400s'", answer);
        return false;
    }
    log_notice("Master replied to PING, replication can continue...");
    return true;
}

static bool authenticate(struct primary_link *link, char *why) {
    char answer[LINK_LINE_MAX];
    struct span words[3] = {SPAN_LITERAL("AUTH")};
    unsigned count = 1;
    if (!link->password_length) return true;
    if (link->user[0]) words[count++] = span_of_text(link->user);
    words[count++] = span_of(link->password, link->password_length);
    if (!link_send_spans(link, words, count, why) || !link_line(link, answer, why)) return false;
    if (answer[0] == '+') return true;
    snprintf(why, LINK_LINE_MAX, "Unable to AUTH to MASTER: %.400s", answer);
    return false;
}

/* Who does not know one of these goes without it. */
static bool introduce(struct primary_link *link, char *why) {
    char port[24], answer[LINK_LINE_MAX];
    snprintf(port, sizeof(port), "%lld", (long long)link->announced_port);
    if (!ask(link, (const char *const[]){"REPLCONF", "listening-port", port, NULL}, answer, why)) return false;
    if (answer[0] == '-') log_notice("(Non critical) Master does not understand REPLCONF listening-port: %s", answer);
    if (link->announced_ip[0]) {
        const char *words[] = {"REPLCONF", "ip-address", link->announced_ip, NULL};
        if (!ask(link, words, answer, why)) return false;
        if (answer[0] == '-') log_notice("(Non critical) Master does not understand REPLCONF ip-address: %s", answer);
    }
    const char *capabilities[] = {"REPLCONF", "capa", "eof", "capa", "psync2", "capa", "field-ttl", NULL};
    if (!ask(link, capabilities, answer, why)) return false;
    if (answer[0] == '-') log_notice("(Non critical) Master does not understand REPLCONF capa: %s", answer);
    return true;
}

/* "+FULLRESYNC id offset" */
static bool take_full_resync(struct primary_link *link, const char *answer) {
    int64_t offset;
    const char *id = answer + strlen("+FULLRESYNC ");
    const char *space = strchr(id, ' ');
    if (!space || space - id != REPLICATION_ID || !number_parse_i64(span_of_text(space + 1), &offset) || offset < 0)
        return false;
    memcpy(link->new_id, id, REPLICATION_ID);
    link->new_id[REPLICATION_ID] = '\0';
    link->new_offset = (uint64_t)offset;
    return true;
}

/* "+CONTINUE" or "+CONTINUE id" */
static bool take_continue(struct primary_link *link, const char *answer) {
    const char *id = answer + strlen("+CONTINUE");
    while (*id == ' ') id++;
    link->new_id[0] = '\0';
    if (*id == '\0') return true;
    if (strlen(id) != REPLICATION_ID) return false;
    memcpy(link->new_id, id, REPLICATION_ID + 1);
    return true;
}

static enum link_answer fail(char *why, const char *what, const char *answer) {
    snprintf(why, LINK_LINE_MAX, "%s: '%.300s'", what, answer);
    return LINK_FAILED;
}

static enum link_answer synchronise(struct primary_link *link, char *why) {
    struct server *server = link->server;
    struct replication *replication = &server->replication;
    char id[REPLICATION_ID + 1] = "?", offset[24] = "-1", answer[LINK_LINE_MAX];
    if (!link->without_history) {
        pthread_mutex_lock(&replication->lock);
        memcpy(id, replication->id, sizeof(id));
        pthread_mutex_unlock(&replication->lock);
        snprintf(offset, sizeof(offset), "%llu", (unsigned long long)replication_offset(server) + 1);
    }
    bool handing_over = atomic_load(&replication->failover) == FAILOVER_HANDING_OVER;
    if (link->without_history)
        log_notice("Partial resynchronization not possible (no cached master)");
    else
        log_notice("Trying a partial resynchronization (request %s:%s).", id, offset);
    const char *words[] = {"PSYNC", id, offset, handing_over ? "FAILOVER" : NULL, NULL};
    if (!ask(link, words, answer, why)) return LINK_FAILED;
    if (begins_with(answer, "+FULLRESYNC ")) {
        if (!take_full_resync(link, answer)) return fail(why, "the primary's answer to PSYNC cannot be read", answer);
        log_notice("Full resync from master: %s:%llu", link->new_id, (unsigned long long)link->new_offset);
        return LINK_FULL_COPY;
    }
    if (begins_with(answer, "+CONTINUE")) {
        if (!take_continue(link, answer)) return fail(why, "the primary's answer to PSYNC cannot be read", answer);
        if (link->without_history) return fail(why, "the primary continues what was never begun", answer);
        log_notice("Successful partial resynchronization with master.");
        return LINK_CONTINUES;
    }
    if (handing_over && answer[0] == '-') atomic_store(&replication->failover_refused, true);
    return fail(why, "Unexpected reply to PSYNC from master", answer);
}

enum link_answer link_handshake(struct primary_link *link, char *why) {
    if (!greet(link, why) || !authenticate(link, why) || !introduce(link, why)) return LINK_FAILED;
    return synchronise(link, why);
}
