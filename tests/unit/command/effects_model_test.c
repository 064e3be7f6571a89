/* Random commands of all families run in one server while time goes by; another, with other shards, another secret seed
 * and other limits of encodings, repeats what the first one tells. From time to time everything there is has to be the
 * same in both. The seed is printed; TEST_SEED repeats a run. */

#include "base/random.h"
#include "command/blocking.h"
#include "memory/region.h"
#include "tests/support/journaled.h"
#include "tests/support/temporary_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum {
    KEYS = 6, /* of each type */
    DATABASES = 3,
    CLIENTS = 3,
    COMPARE_EVERY = 50,
    TEXT_MAX = 64 << 10,
    WORDS_MAX = 256,
#ifdef TERRACE_SANITIZE
    COMMANDS = 10000,
    STARVED_COMMANDS = 2000,
    TIERED_COMMANDS = 2000,
#else
    COMMANDS = 60000,
    STARVED_COMMANDS = 20000,
    TIERED_COMMANDS = 8000,
#endif
};

/* What a letter after % becomes:
 *   s l e z h x p o  a key of the type: string, list, set, sorted set, hash, stream, HyperLogLog, places
 *   k any key, v a value, m a member, f a field, i an integer, j one that may be negative, r a float, n 1 to 4
 *   t a few milliseconds, A a time in milliseconds around now, S the same in seconds, d a database
 *   g a group, c a consumer, I an ID of an entry, perhaps */
static const char *const forms[] = {
    "SET %s %v",
    "SET %k %v",
    "SET %s %v PX %t",
    "SET %s %v EX %n",
    "SET %s %v PXAT %A",
    "SET %s %j KEEPTTL GET",
    "SET %s %i NX EX %n",
    "SET %s %r XX",
    "SETEX %s %n %v",
    "PSETEX %s %t %v",
    "SETNX %s %i",
    "GETSET %s %v",
    "GETDEL %s",
    "GETEX %s PX %t",
    "GETEX %s EXAT %S",
    "GETEX %s PERSIST",
    "GET %s",
    "INCRBY %s %j",
    "DECR %s",
    "INCRBYFLOAT %s %r",
    "APPEND %s %v",
    "SETRANGE %s %i %v",
    "MSET %s %v %s %i",
    "MSETNX %s %v %s %i",
    "SETBIT %s %i 1",
    "BITOP XOR %s %s %s",
    "BITFIELD %s INCRBY u5 %i %i OVERFLOW FAIL INCRBY i3 %i 3 GET u4 0",
    "PFADD %p %v %v %v",
    "PFCOUNT %p",
    "PFCOUNT %p %p",
    "PFMERGE %p %p %p",
    "PFDEBUG TODENSE %p",
    "DEL %k %k",
    "UNLINK %k",
    "EXPIRE %k %n",
    "PEXPIRE %k %t",
    "PEXPIRE %k %t GT",
    "EXPIREAT %k %S",
    "PEXPIREAT %k %A LT",
    "PERSIST %k",
    "TTL %k",
    "RENAME %k %k",
    "RENAMENX %k %k",
    "COPY %k %k REPLACE",
    "COPY %k %k DB %d REPLACE",
    "MOVE %k %d",
    "SELECT %d",
    "SELECT 0",
    "TYPE %k",
    "HSET %h %f %v %f %i %f %r",
    "HMSET %h %f %v %f %v",
    "HSETNX %h %f %i",
    "HDEL %h %f %f",
    "HINCRBY %h %f %j",
    "HINCRBYFLOAT %h %f %r",
    "HEXPIRE %h %n FIELDS 3 %f %f %f",
    "HPEXPIRE %h %t FIELDS 2 %f %f",
    "HPEXPIRE %h %t LT FIELDS 2 %f %f",
    "HPEXPIREAT %h %A NX FIELDS 2 %f %f",
    "HPERSIST %h FIELDS 2 %f %f",
    "HGETALL %h",
    "HLEN %h",
    "HGETEX %h PX %t FIELDS 2 %f %f",
    "HGETEX %h PXAT %A FIELDS 2 %f %f",
    "HGETEX %h PERSIST FIELDS 2 %f %f",
    "HGETDEL %h FIELDS 2 %f %f",
    "HSETEX %h FNX PX %t FIELDS 1 %f %v",
    "HSETEX %h PXAT %A FIELDS 2 %f %v %f %v",
    "HSETEX %h KEEPTTL FIELDS 2 %f %i %f %v",
    "HSETEX %h FXX FIELDS 1 %f %i",
    "RPUSH %l %v %i %m",
    "LPUSH %l %v",
    "LPUSHX %l %m",
    "LINSERT %l BEFORE %m %v",
    "LSET %l %j %m",
    "LREM %l %j %m",
    "LTRIM %l %n -%n",
    "LPOP %l",
    "RPOP %l %n",
    "LMPOP 2 %l %l LEFT COUNT %n",
    "BLPOP %l %l 0",
    "BRPOP %l 0",
    "BLMPOP 0 2 %l %l RIGHT COUNT %n",
    "LMOVE %l %l LEFT RIGHT",
    "RPOPLPUSH %l %l",
    "BLMOVE %l %l RIGHT LEFT 0",
    "BRPOPLPUSH %l %l 0",
    "SADD %e %m %m %m",
    "SADD %e %i %i",
    "SREM %e %m %i",
    "SPOP %e",
    "SPOP %e %n",
    "SMOVE %e %e %m",
    "SUNIONSTORE %e %e %e",
    "SINTERSTORE %e %e %e",
    "SDIFFSTORE %e %e %e",
    "SORT %e ALPHA STORE %l",
    "SORT %e BY nosort STORE %l",
    "SORT %e ALPHA BY weight:* GET # GET h:*->f1 STORE %l",
    "SORT %l ALPHA DESC LIMIT 0 %n STORE %l",
    "ZADD %z %r %m %r %m",
    "ZADD %z GT CH %r %m",
    "ZADD %z NX INCR %r %m",
    "ZINCRBY %z %r %m",
    "ZREM %z %m %m",
    "ZPOPMIN %z",
    "ZPOPMAX %z %n",
    "ZMPOP 2 %z %z MIN COUNT %n",
    "BZPOPMIN %z %z 0",
    "BZPOPMAX %z 0",
    "BZMPOP 0 2 %z %z MAX COUNT %n",
    "ZREMRANGEBYRANK %z %n %n",
    "ZREMRANGEBYSCORE %z %j %i",
    "ZREMRANGEBYLEX %z [a (c",
    "ZUNIONSTORE %z 2 %z %e WEIGHTS %r 2",
    "ZINTERSTORE %z 2 %z %z AGGREGATE MAX",
    "ZDIFFSTORE %z 2 %z %e",
    "ZRANGESTORE %z %z %j %i BYSCORE",
    "GEOADD %o 2.%i 48.%i %m 3.%i 47.%i %m",
    "GEOSEARCHSTORE %z %o FROMLONLAT 2.5 48.2 BYRADIUS %i km ANY COUNT %n",
    "GEORADIUS %o 2.5 47.5 %i km STOREDIST %z",
    "XADD %x * a %v",
    "XADD %x * a %v b %i",
    "XADD %x %I a %v",
    "XADD %x NOMKSTREAM %A-* b %v",
    "XADD %x MAXLEN 9 * a %v",
    "XADD %x MAXLEN ~ 5 * a %v",
    "XADD %x MINID = %I * a %v",
    "XADD %x IDMP %c %n * a %v",
    "XADD %x IDMPAUTO %c * a %n",
    "XTRIM %x MAXLEN %i",
    "XTRIM %x MINID %I",
    "XDEL %x %I %I",
    "XSETID %x %I",
    "XSETID %x %A-0 ENTRIESADDED %i MAXDELETEDID %I",
    "XCFGSET %x IDMP-MAXSIZE %n",
    "XGROUP CREATE %x %g $ MKSTREAM",
    "XGROUP CREATE %x %g 0",
    "XGROUP CREATE %x %g %I ENTRIESREAD %n",
    "XGROUP SETID %x %g %I",
    "XGROUP SETID %x %g $ ENTRIESREAD %i",
    "XGROUP CREATECONSUMER %x %g %c",
    "XGROUP DELCONSUMER %x %g %c",
    "XGROUP DESTROY %x %g",
    "XREADGROUP GROUP %g %c COUNT %n STREAMS %x >",
    "XREADGROUP GROUP %g %c STREAMS %x >",
    "XREADGROUP GROUP %g %c COUNT %n NOACK STREAMS %x >",
    "XREADGROUP GROUP %g %c COUNT %n STREAMS %x %x > 0",
    "XREADGROUP GROUP %g %c BLOCK 0 STREAMS %x >",
    "XREADGROUP GROUP %g %c STREAMS %x %I",
    "XACK %x %g %I %I",
    "XCLAIM %x %g %c %i %I %I",
    "XCLAIM %x %g %c 0 %I FORCE IDLE %i RETRYCOUNT %n",
    "XCLAIM %x %g %c 0 %I JUSTID LASTID %I TIME %A",
    "XAUTOCLAIM %x %g %c %i - COUNT %n",
    "XAUTOCLAIM %x %g %c 0 %I JUSTID",
};
enum { FORMS = sizeof(forms) / sizeof(forms[0]) };

/* For a server without memory. Many at once: M members, Q scores and members, F fields and values; B a long value. */
static const char *const big_forms[] = {
    "SADD %e %M",
    "SADD %e %M",
    "SREM %e %M",
    "SPOP %e 70",
    "SMOVE %e %e %m",
    "SUNIONSTORE %e %e %e",
    "HSET %h %F",
    "HSET %h %F",
    "HSETEX %h PX 100000 FIELDS 40 %F",
    "HSETEX %h KEEPTTL FIELDS 40 %F",
    "HDEL %h %M",
    "HINCRBYFLOAT %h %f %r",
    "RPUSH %l %M",
    "LPUSH %l %M %B",
    "RPUSH %l %M %B",
    "LTRIM %l 5 -9",
    "RPOP %l 30",
    "LPOP %l 30",
    "LREM %l -3 %m",
    "LREM %l 0 %m",
    "LSET %l %i %B",
    "LINSERT %l BEFORE %m %B",
    "LMOVE %l %l LEFT RIGHT",
    "SORT %e ALPHA STORE %l",
    "ZADD %z %Q",
    "ZADD %z %Q",
    "ZREM %z %M",
    "ZPOPMAX %z 30",
    "ZREMRANGEBYRANK %z 10 60",
    "ZUNIONSTORE %z 2 %z %e",
    "MSET %s %B %s %B %s %B",
    "APPEND %s %B",
    "SETRANGE %s 70000 %B",
    "BITOP OR %s %s %s",
    "SET %s %B",
    "INCRBYFLOAT %s %r",
    "PFADD %p %M",
    "PFMERGE %p %p %p",
    "XADD %x * a %B",
    "XADD %x MAXLEN ~ 50 * a %B b %v",
    "XADD %x IDMP %c %i * a %B",
    "XGROUP CREATE %x %g 0 MKSTREAM",
    "XREADGROUP GROUP %g %c STREAMS %x >",
    "XREADGROUP GROUP %g %c COUNT 9 STREAMS %x 0",
    "XAUTOCLAIM %x %g %c 0 - COUNT 20",
    "XACK %x %g %I %I",
    "XDEL %x %I %I",
    "COPY %k %k REPLACE",
    "RENAME %k %k",
    "DEL %k",
    "DEL %s",
};
enum { BIG_FORMS = sizeof(big_forms) / sizeof(big_forms[0]), TOGETHER = 40 };

static const char *const rare_forms[] = {"FLUSHDB", "SWAPDB %d %d", "FLUSHALL ASYNC"};

struct model {
    struct journaled *journaled;
    struct random random;
    bool starved;
    struct session clients[CLIENTS];
    char text[TEXT_MAX];
    uint64_t blocked, refused;
};

static unsigned below(struct model *model, unsigned bound) {
    return (unsigned)random_below(&model->random, bound);
}

/* ---- commands ---- */

static const struct tier_options tier = {.path = "tier",
                                         .size_bytes = 64 << 20,
                                         .segment_bytes = 1 << 20,
                                         .memory_bytes = 16 << 20,
                                         .direct = TIER_DIRECT_AUTO};

static const char types[] = "slezhxpo";

static int key_of(struct model *model, char type, char *at) {
    /* Now and then the key of another type: for errors, and for values that are replaced. */
    if (below(model, 40) == 0) type = types[below(model, sizeof(types) - 1)];
    return sprintf(at, "%c:%u", type, below(model, KEYS));
}

static int value_of(struct model *model, char *at) {
    unsigned length = below(model, 12) ? 1 + below(model, 12) : below(model, 200);
    for (unsigned i = 0; i < length; i++) at[i] = "abcdefghijklmnop"[below(model, 16)];
    if (length == 0) at[length++] = 'q';
    return (int)length;
}

static int id_of(struct model *model, char *at) {
    long long now = (long long)model->journaled->server->dispatcher->now_ms;
    switch (below(model, 10)) {
    case 0: return sprintf(at, "%u-%u", 1 + below(model, 20), below(model, 3));
    case 1: return sprintf(at, "%lld", now + below(model, 50));
    default: return sprintf(at, "%lld-%u", now - below(model, 60), below(model, 3));
    }
}

/* Of the names that M, Q and F draw, so that they can be met again. */
static int long_name_of(struct model *model, char *at) {
    return sprintf(at, "%c%u%s", 'a' + (char)below(model, 3), below(model, 400), "-with-a-longer-name");
}

static int many_of(struct model *model, char kind, char *at) {
    char *begin = at;
    for (unsigned i = 0; i < TOGETHER; i++) {
        if (i) *at++ = ' ';
        if (kind == 'Q') at += sprintf(at, "%u ", 1 + below(model, 90));
        at += long_name_of(model, at);
        if (kind != 'F') continue;
        *at++ = ' ';
        at += value_of(model, at);
    }
    return (int)(at - begin);
}

static int word_of(struct model *model, char kind, char *at) {
    long long now = (long long)model->journaled->server->dispatcher->now_ms;
    switch (kind) {
    case 'k': return key_of(model, types[below(model, sizeof(types) - 1)], at);
    case 'v': return value_of(model, at);
    case 'm': return sprintf(at, "%c%u", 'a' + (char)below(model, 3), below(model, 12));
    case 'f': return sprintf(at, "f%u", below(model, below(model, 4) ? 8 : 24));
    case 'i': return sprintf(at, "%u", below(model, below(model, 8) ? 20 : 300));
    case 'j': return sprintf(at, "%d", (int)below(model, 40) - 20);
    case 'r': return sprintf(at, "%s%u.%u", below(model, 3) ? "" : "-", 1 + below(model, 30), below(model, 1000));
    case 'n': return sprintf(at, "%u", 1 + below(model, 4));
    case 't': return sprintf(at, "%u", 1 + below(model, 2000));
    case 'A': return sprintf(at, "%lld", now + (int)below(model, 4000) - 400);
    case 'S': return sprintf(at, "%lld", now / 1000 + (int)below(model, 10) - 1);
    case 'd': return sprintf(at, "%u", below(model, DATABASES));
    case 'g': return sprintf(at, "g%u", below(model, 2));
    case 'c': return sprintf(at, "c%u", below(model, 3));
    case 'I': return id_of(model, at);
    case 'M':
    case 'Q':
    case 'F': return many_of(model, kind, at);
    case 'B': return sprintf(at, "%0*u", 1000 + (int)below(model, 9000), below(model, 1000));
    default: return key_of(model, kind, at);
    }
}

static void fill_in(struct model *model, const char *form) {
    char *at = model->text;
    for (; *form; form++) {
        if (*form == '%')
            at += word_of(model, *++form, at);
        else
            *at++ = *form;
    }
    *at = '\0';
}

/* ---- clients ---- */

static void finish_waits(struct in_process *server) {
    struct blocked *blocked;
    while ((blocked = blocked_take_finished(server->dispatcher))) {
        struct reply reply;
        reply_init(&reply, NULL, 0, NULL, NULL);
        blocked_answer(server->dispatcher, blocked, &reply);
        reply_clear(&reply);
    }
}

/* A client that does not wait, or the last, which is freed from what it waits for. */
static void choose_client(struct model *model) {
    struct in_process *server = model->journaled->server;
    unsigned first = below(model, CLIENTS);
    server->session = &model->clients[first];
    for (unsigned i = 0; i < CLIENTS && server->session->blocked; i++)
        server->session = &model->clients[(first + i) % CLIENTS];
    if (!server->session->blocked) return;
    blocked_leave(server->dispatcher, server->session);
    finish_waits(server);
}

static void run_words(struct in_process *server, const char *line) {
    struct span words[WORDS_MAX];
    uint32_t count = 0;
    for (const char *at = line; *at; at += *at == ' ') {
        words[count++] = span_of(at, strcspn(at, " "));
        at += words[count - 1].length;
    }
    in_process_run_arguments(server, words, count);
}

static void run(struct model *model, const char *form) {
    struct in_process *server = model->journaled->server;
    fill_in(model, form);
    run_words(server, model->text);
    model->refused += strncmp(server->reply, "-OOM", 4) == 0;
    model->blocked += server->session->blocked != NULL;
    finish_waits(server);
}

static const char *draw(struct model *model) {
    if (model->starved && below(model, 4)) return big_forms[below(model, BIG_FORMS)];
    if (below(model, 5000) == 0) return rare_forms[below(model, sizeof(rare_forms) / sizeof(rare_forms[0]))];
    const char *form = forms[below(model, FORMS)];
    /* What meets any key mostly ends or replaces it. */
    return strstr(form, "%k") && below(model, 3) ? draw(model) : form;
}

static void run_transaction(struct model *model) {
    in_process_run(model->journaled->server, "MULTI");
    for (unsigned i = below(model, 6); i > 0; i--) run(model, draw(model));
    run(model, "EXEC");
}

static void sweep(struct model *model) {
    struct in_process *server = model->journaled->server;
    for (uint32_t shard = 0; shard < server->keyspace->shard_count; shard++) {
        (void)keyspace_sweep(server->keyspace, shard, server->dispatcher->now_ms, 1000000, NULL);
        while (keyspace_drain(server->keyspace, shard, 1000000)) continue;
    }
}

/* ---- the test ---- */

static void compare(struct model *model) {
    char key[16];
    for (uint32_t database = 0; database < DATABASES; database++)
        for (const char *type = types; *type; type++)
            for (unsigned i = 0; i < KEYS; i++) {
                snprintf(key, sizeof(key), "%c:%u", *type, i);
                journaled_compare(model->journaled, database, key);
            }
    journaled_compare_all(model->journaled);
}

static void step(struct model *model, unsigned number) {
    choose_client(model);
    if (below(model, 15) == 0)
        run_transaction(model);
    else
        run(model, draw(model));
    if (below(model, 4) == 0) journaled_advance(model->journaled, below(model, 20));
    if (below(model, 50) == 0) sweep(model);
    if (number % COMPARE_EVERY) return;
    (void)journaled_effects(model->journaled);
    compare(model);
}

enum situation { PLENTY, STARVED, TIERED };

static void begin(struct model *model, enum situation situation) {
    const char *given = getenv("TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 20261121;
    print_message("seed %llu (TEST_SEED)\n", (unsigned long long)seed);
    memset(model, 0, sizeof(*model));
    random_seed(&model->random, seed);
    model->starved = situation == STARVED;
    model->journaled =
        journaled_create_with(situation == STARVED ? REGION_BYTES : 0, situation == TIERED ? &tier : NULL);
    for (unsigned i = 0; i < CLIENTS; i++) {
        session_init(&model->clients[i], i + 1, IN_PROCESS_START_MS);
        model->clients[i].authenticated = true;
    }
}

static void end(struct model *model) {
    struct in_process *server = model->journaled->server;
    for (unsigned i = 0; i < CLIENTS; i++) {
        blocked_leave(server->dispatcher, &model->clients[i]);
        finish_waits(server);
        in_process_end_session(server, &model->clients[i]);
    }
    server->session = &server->own_session;
    journaled_destroy(model->journaled);
}

static void repeating_effects_makes_the_same(void **state) {
    (void)state;
    static struct model model;
    begin(&model, PLENTY);
    for (unsigned i = 1; i <= COMMANDS; i++) step(&model, i);
    assert_true(model.blocked > 0);
    end(&model);
}

static void what_found_no_memory_is_told_as_far_as_it_came(void **state) {
    (void)state;
    static struct model model;
    begin(&model, STARVED);
    for (unsigned i = 1; i <= STARVED_COMMANDS; i++) step(&model, i);
    assert_true(model.refused > 0);
    end(&model);
}

/* A command that waits for cold records is run again, and told once. */
static void what_waits_for_cold_records_is_told_once(void **state) {
    (void)state;
    static struct model model;
    begin(&model, TIERED);
    for (unsigned i = 1; i <= TIERED_COMMANDS; i++) {
        if (below(&model, 10) == 0) {
            model.journaled->server->session = &model.journaled->server->own_session;
            in_process_demote(model.journaled->server, "*");
        }
        step(&model, i);
    }
    assert_true(model.journaled->server->waits > 0);
    end(&model);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(repeating_effects_makes_the_same),
                                       cmocka_unit_test(what_found_no_memory_is_told_as_far_as_it_came),
                                       cmocka_unit_test(what_waits_for_cold_records_is_told_once)};
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
