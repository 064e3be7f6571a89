/* terrace-server: reads the configuration, starts the server, serves, exits. */

#include "base/clock.h"
#include "base/log.h"
#include "base/thread_place.h"
#include "server/allocator.h"
#include "server/crash.h"
#include "server/leftovers.h"
#include "server/pmem_start.h"
#include "server/server.h"
#include "server/title.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *text) {
    fprintf(stderr, "terrace-server: %s\n", text);
    return 1;
}

int main(int argc, char **argv) {
    static struct server server;
    struct config_error config_error;
    struct socket_error error;
    enum config_action action;
    title_init(argc, argv);
    server.process.program = strdup(argv[0]); /* its place is where the title is shown */
    clock_init();
    thread_place_begin();
    config_init(&server.config);
    if (!config_parse_arguments(&server.config, argc, argv, &action, &config_error)) return fail(config_error.text);
    switch (action) {
    case CONFIG_ACTION_HELP: config_print_help(stdout, "terrace-server"); return 0;
    case CONFIG_ACTION_VERSION: printf("Terrace server v=%s bits=64\n", TERRACE_VERSION); return 0;
    case CONFIG_ACTION_PRINT_SAMPLE: config_print_sample(stdout); return 0;
    case CONFIG_ACTION_START: break;
    }
    if (chdir(server.config.general.dir) != 0) {
        snprintf(error.text, sizeof(error.text), "cannot change to directory '%.100s' (dir): %s",
                 server.config.general.dir, strerror(errno));
        return fail(error.text);
    }
    const struct config_logging *logging = &server.config.logging;
    struct log_options log = {.level = (enum log_level)logging->level,
                              .file = logging->logfile,
                              .syslog_ident = logging->syslog_enabled ? logging->syslog_ident : NULL,
                              .syslog_facility = logging->syslog_facility};
    if (!log_configure(&log)) {
        snprintf(error.text, sizeof(error.text), "cannot open the log file '%.100s': %s", log.file, strerror(errno));
        return fail(error.text);
    }
    if (!process_check_directory(&server.config, &error) || !process_go_background(&server, &error))
        return fail(error.text);
    process_greet(&server);
    config_log_warnings(&server.config);
    crash_install();
    crash_report(server.config.general.crash_log_enabled);
    leftovers_remove(".", server.config.persistence.append_dirname);
    allocator_start();
    if (!server_start(&server, &error)) {
        pmem_start_close(&server); /* a pool that is refused is closed as it was found */
        return fail(error.text);
    }
    process_show_logo(&server);
    log_notice("Server initialized"); /* what test suites of Valkey wait for before they connect */
    int code = server_run(&server);
    listeners_close(&server);
#ifdef TERRACE_SANITIZE
    server_free(&server);
    config_free(&server.config);
#else
    tier_destroy(server.tier); /* what is on it is of use to nobody now */
    pmem_start_close(&server);
#endif
    /* Elsewhere the kernel takes the memory back, at once, which record by record would take minutes at a billion keys.
     */
    return code;
}
