/* Text made from the table: --help, the sample file, and single directives as lines of a file. */

#include "server/config_file.h"
#include "server/config_state.h"

#include <inttypes.h>
#include <stdlib.h>

/* 64mb rather than 67108864, if it comes out even. */
static void print_memory(FILE *out, int64_t bytes) {
    static const char *const units[] = {"gb", "mb", "kb"};
    int64_t size = INT64_C(1) << 30;
    for (size_t i = 0; i < 3; i++, size >>= 10) {
        if (bytes > 0 && bytes % size == 0) {
            fprintf(out, "%" PRId64 "%s", bytes / size, units[i]);
            return;
        }
    }
    fprintf(out, "%" PRId64, bytes);
}

void config_print_directive(FILE *out, size_t row, struct span name, const void *value) {
    const struct config_type *type = config_row_at(row)->type;
    fprintf(out, "%.*s ", (int)name.length, name.data);
    if (type == &config_type_memory) {
        print_memory(out, *(const int64_t *)value);
    } else {
        char *text = config_format_value(row, value, NULL);
        char *rest = text;
        char *word = type->multi_word ? strsep(&rest, " ") : text;
        config_print_word(out, span_of_text(word));
        while (type->multi_word && (word = strsep(&rest, " "))) {
            fputc(' ', out);
            config_print_word(out, span_of_text(word));
        }
        free(text);
    }
    fputc('\n', out);
}

/* What a value looks like: "0..65535", "debug|verbose|...", "yes|no". */
static void print_domain(FILE *out, const struct config_row *row) {
    if (row->choices) {
        for (const struct config_choice *choice = row->choices; choice->name; choice++) {
            fprintf(out, "%s%s", choice == row->choices ? "" : "|", choice->name);
        }
    } else if (row->type == &config_type_octal) {
        fprintf(out, "%" PRIo64 "..%" PRIo64 " octal", row->min, row->max);
    } else if (row->type == &config_type_integer && row->max < INT32_MAX && row->min > INT32_MIN) {
        fprintf(out, "%" PRId64 "..%" PRId64, row->min, row->max);
    } else {
        fputs(row->type->label, out);
    }
    bool is_number = row->type == &config_type_integer;
    if (is_number && row->unit != CONFIG_UNIT_NONE) fprintf(out, " %s", config_unit_names[row->unit]);
}

void config_print_help(FILE *out, const char *program) {
    fprintf(out,
            "Usage: %s [FILE | -] [--DIRECTIVE VALUE...]...\n"
            "\n"
            "Serves clients of the Redis protocol. Directives come from FILE, from standard input for `-`, and from\n"
            "the command line, which has the last word: %s terrace.conf --port 7000 --save \"\"\n"
            "\n"
            "  -h, --help              this text\n"
            "  -v, --version           the version\n"
            "  --print-sample-config   a file with every directive and its default\n",
            program, program);
    for (int group = 0; group < CONFIG_GROUPS; group++) {
        bool titled = false;
        for (size_t i = 0; i < config_rows_served_count; i++) {
            const struct config_row *row = config_row_at(i);
            if ((int)row->group != group || (row->flags & CONFIG_HIDDEN)) continue;
            if (!titled) fprintf(out, "\n%s\n", config_group_titles[group]);
            titled = true;
            fprintf(out, "  --%s ", row->name);
            print_domain(out, row);
            fprintf(out, "\n      %s (default: %s%s)\n", row->help, row->default_text[0] ? row->default_text : "\"\"",
                    row->flags & CONFIG_RUNTIME ? "" : "; fixed at start");
        }
    }
    fputs("\nOther directives of redis.conf are accepted and have no effect; the sample file lists them.\n", out);
}

static void print_default(FILE *out, const struct config *defaults, size_t row) {
    const struct config_row *definition = config_row_at(row);
    bool is_path = strcmp(definition->name, "dir") == 0; /* its value is made absolute, which no sample should be */
    if (is_path) {
        fprintf(out, "%s %s\n", definition->name, definition->default_text);
    } else {
        config_print_directive(out, row, span_of_text(definition->name), config_value(defaults, row));
    }
}

static void print_sample_row(FILE *out, const struct config *defaults, size_t row) {
    const struct config_row *definition = config_row_at(row);
    fprintf(out, "\n# %s.\n# ", definition->help);
    print_domain(out, definition);
    fputs(definition->flags & CONFIG_RUNTIME ? "; CONFIG SET may change it\n" : "; fixed at start\n", out);
    if (definition->inert) fprintf(out, "# Without effect: %s.\n", definition->inert);
    /* Nothing to say until somebody fills it in. */
    if (definition->default_text[0] == '\0' || (definition->flags & CONFIG_DEPENDS)) fputs("# ", out);
    print_default(out, defaults, row);
}

static void print_accepted_rows(FILE *out, const struct config *defaults, int group) {
    bool titled = false;
    for (size_t i = config_rows_served_count; i < config_row_count(); i++) {
        const struct config_row *row = config_row_at(i);
        if ((int)row->group != group || (row->flags & CONFIG_HIDDEN) || row->refused) continue;
        if (!titled) fprintf(out, "#\n# %s\n", config_group_titles[group]);
        titled = true;
        fputs("#   ", out);
        print_default(out, defaults, i);
    }
}

void config_print_sample(FILE *out) {
    struct config defaults;
    config_init(&defaults);
    fputs(
        "# Configuration of terrace-server. Each line is a directive and its values; every value below is the "
        "default.\n"
        "# Memory is given in bytes or as 1kb, 1mb, 1gb (powers of 1024) or 1k, 1m, 1g (powers of 1000). Quotes as in\n"
        "# \"two words\" keep spaces; \"\" is an empty value. `include FILE` reads another file at that place.\n"
        "#\n"
        "# This file is the output of `terrace-server --print-sample-config`.\n",
        out);
    for (int group = 0; group < CONFIG_GROUPS; group++) {
        bool titled = false;
        for (size_t i = 0; i < config_rows_served_count; i++) {
            if ((int)config_row_at(i)->group != group || (config_row_at(i)->flags & CONFIG_HIDDEN)) continue;
            if (!titled) fprintf(out, "\n# ---- %s ----\n", config_group_titles[group]);
            titled = true;
            print_sample_row(out, &defaults, i);
        }
    }
    fputs("\n# ---- Accepted without effect ----\n"
          "#\n"
          "# These directives of redis.conf may be given, so that existing files work; CONFIG GET and CONFIG SET know "
          "them.\n"
          "# A value other than the default is mentioned in the log. The exceptions, whose silence would be a false\n"
          "# promise, are refused: cluster-enabled yes, tls-port, aclfile, user, loadmodule.\n",
          out);
    for (int group = 0; group < CONFIG_GROUPS; group++) print_accepted_rows(out, &defaults, group);
    config_free(&defaults);
}
