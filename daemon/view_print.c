// SPDX-License-Identifier: Apache-2.0
#include "daemon/view_print.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"

enum { PRINT_SEQUENCE = 10, PRINT_COLUMNS_MAX = 32, PRINT_TIME = 40 };

// 2026-01-01 00:00:05.250, UTC.
static const char *time_text(const json_t *v, char text[PRINT_TIME])
{
    char seconds[32];
    struct tm tm;
    json_int_t ms = json_integer_value(v);
    time_t t = (time_t)(ms / 1000);
    if (!json_is_integer(v) || gmtime_r(&t, &tm) == NULL ||
        strftime(seconds, sizeof seconds, "%F %T", &tm) == 0)
        snprintf(text, PRINT_TIME, "-");
    else
        snprintf(text, PRINT_TIME, "%s.%03d", seconds, (int)(ms % 1000));
    return text;
}

static void print_value(const json_t *v, FILE *to)
{
    char *text;
    if (json_is_string(v)) {
        fprintf(to, "%s", json_string_value(v));
        return;
    }
    text = json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    fprintf(to, "%s", text != NULL ? text : "-");
    free(text);
}

// ---- a user or an item ------------------------------------------------------------------------------------

static void print_profile(json_t *profile, FILE *to)
{
    const char *name;
    json_t *v;
    int width = 0;
    if (json_object_size(profile) == 0)
        return;
    fprintf(to, "\nprofile\n");
    json_object_foreach(profile, name, v) width = (int)strlen(name) > width ? (int)strlen(name) : width;
    json_object_foreach(profile, name, v)
    {
        fprintf(to, "  %-*s  ", width, name);
        print_value(v, to);
        fputc('\n', to);
    }
}

// Actions down, windows across.
static void print_counters(json_t *counters, FILE *to)
{
    const char *action;
    const char *window;
    json_t *windows;
    json_t *v;
    bool first = true;
    if (json_object_size(counters) == 0)
        return;
    json_object_foreach(counters, action, windows)
    {
        if (first) {
            fprintf(to, "\n%-14s", "counters");
            json_object_foreach(windows, window, v) fprintf(to, " %10s", window);
            fputc('\n', to);
        }
        first = false;
        fprintf(to, "  %-12s", action);
        json_object_foreach(windows, window, v) fprintf(to, " %10lld", (long long)json_integer_value(v));
        fputc('\n', to);
    }
}

static void print_sequences(json_t *sequences, FILE *to)
{
    const char *action;
    json_t *list;
    json_object_foreach(sequences, action, list)
    {
        size_t n = json_array_size(list);
        fprintf(to, "\nlast %s (%zu kept, newest first)\n", action, n);
        for (size_t i = 0; i < n && i < PRINT_SEQUENCE; i++) {
            char ts[PRINT_TIME];
            const char *item = json_string_value(json_object_get(json_array_get(list, i), "item_id"));
            fprintf(to, "  %s  %s\n", time_text(json_object_get(json_array_get(list, i), "ts"), ts),
                    item != NULL ? item : "-");
        }
        if (n > PRINT_SEQUENCE)
            fprintf(to, "  and %zu more: --json\n", n - PRINT_SEQUENCE);
    }
}

static void print_pending(const json_t *pending, FILE *to)
{
    size_t n = json_array_size(pending);
    if (n > 0)
        fprintf(to, "\npending impressions (%zu)\n", n);
    for (size_t i = 0; i < n; i++) {
        char ts[PRINT_TIME];
        char due[PRINT_TIME];
        const json_t *p = json_array_get(pending, i);
        const json_t *labels = json_object_get(p, "labels");
        const char *item = json_string_value(json_object_get(p, "item_id"));
        fprintf(to, "  %s  due %s  %s ", time_text(json_object_get(p, "ts"), ts),
                time_text(json_object_get(p, "due"), due), item != NULL ? item : "-");
        for (size_t a = 0; a < json_array_size(labels); a++)
            fprintf(to, " %s", json_string_value(json_array_get(labels, a)));
        fputc('\n', to);
    }
}

static int print_entity(json_t *root, FILE *to)
{
    char at[PRINT_TIME];
    char first[PRINT_TIME];
    const json_t *user = json_object_get(root, "user_id");
    const char *id = json_string_value(user != NULL ? user : json_object_get(root, "item_id"));
    if (id == NULL)
        return -1;
    fprintf(to, "%s %s\n  seen since  %s\n  as of       %s\n", user != NULL ? "user" : "item", id,
            time_text(json_object_get(root, "first_ts"), first), time_text(json_object_get(root, "at"), at));
    print_profile(json_object_get(root, "profile"), to);
    print_counters(json_object_get(root, "counters"), to);
    print_sequences(json_object_get(root, "sequences"), to);
    print_pending(json_object_get(root, "pending"), to);
    return 0;
}

// ---- a row of a table -------------------------------------------------------------------------------------

static int print_embedding(json_t *root, FILE *to)
{
    static const char *const members[] = {"version", "count"};
    char seen[PRINT_TIME];
    const json_t *vector = json_object_get(root, "vector");
    const char *table = json_string_value(json_object_get(root, "table"));
    const char *id = json_string_value(json_object_get(root, "id"));
    if (table == NULL || id == NULL)
        return -1;
    fprintf(to, "%s %s\n", table, id);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        fprintf(to, "  %-10s %lld\n", members[i],
                (long long)json_integer_value(json_object_get(root, members[i])));
    fprintf(to, "  %-10s %s\n", "last seen", time_text(json_object_get(root, "last_seen"), seen));
    if (!json_is_array(vector))
        fprintf(to, "  not admitted yet: it has no vector\n");
    for (size_t i = 0; i < json_array_size(vector); i++)
        fprintf(to, "%s% .6f%s", i % 8 == 0 ? "  " : " ", json_number_value(json_array_get(vector, i)),
                i % 8 == 7 || i + 1 == json_array_size(vector) ? "\n" : "");
    return 0;
}

// ---- scores -----------------------------------------------------------------------------------------------

struct print_score {
    const json_t *row;
    double first;
    size_t place;
};

// The best by the first column on top, `score` if there is one; ties stay in the order of the request. What is ranked
// is in its order already.
static int score_order(const void *a, const void *b)
{
    const struct print_score *x = a;
    const struct print_score *y = b;
    if (x->first != y->first)
        return x->first > y->first ? -1 : 1;
    return x->place < y->place ? -1 : 1;
}

static uint32_t score_heads(json_t *row, const char **ret_heads)
{
    uint32_t n = 0;
    const char *name;
    json_t *v;
    json_object_foreach(row, name, v) if ((json_is_number(v) || json_is_null(v)) && n < PRINT_COLUMNS_MAX &&
                                          strcmp(name, "rank") != 0 && strcmp(name, "stage") != 0)
        ret_heads[n++] = name;
    return n;
}

static void print_number(const json_t *v, FILE *to)
{
    if (json_is_number(v))
        fprintf(to, "  %10.6f", json_number_value(v));
    else
        fprintf(to, "  %10s", "-");
}

static int print_scores(json_t *root, FILE *to)
{
    const char *heads[PRINT_COLUMNS_MAX];
    const json_t *scores = json_object_get(root, "scores");
    size_t n = json_array_size(scores);
    int width = 4;
    if (n == 0)
        return -1;
    uint32_t n_heads = score_heads(json_array_get(scores, 0), heads);
    const bool ranked = json_object_get(json_array_get(scores, 0), "rank") != NULL;
    struct print_score *order = mem_array(n, sizeof *order);
    for (size_t i = 0; i < n; i++) {
        const json_t *row = json_array_get(scores, i);
        int len = (int)json_string_length(json_object_get(row, "item_id"));
        const json_t *first = n_heads > 0 && !ranked ? json_object_get(row, heads[0]) : NULL;
        order[i] = (struct print_score){row, json_is_number(first) ? json_number_value(first) : -INFINITY, i};
        width = len > width ? len : width;
    }
    qsort(order, n, sizeof *order, score_order);
    fprintf(to, "%s%-*s%s", ranked ? "rank  " : "", width, "item", ranked ? "  stage" : "");
    for (uint32_t h = 0; h < n_heads; h++)
        fprintf(to, "  %10s", heads[h]);
    fputc('\n', to);
    for (size_t i = 0; i < n; i++) {
        const char *item = json_string_value(json_object_get(order[i].row, "item_id"));
        if (ranked)
            fprintf(to, "%4zu  ", i + 1);
        fprintf(to, "%-*s", width, item != NULL ? item : "-");
        if (ranked)
            fprintf(to, "  %5lld", (long long)json_integer_value(json_object_get(order[i].row, "stage")));
        for (uint32_t h = 0; h < n_heads; h++)
            print_number(json_object_get(order[i].row, heads[h]), to);
        fputc('\n', to);
    }
    free(order);
    return 0;
}

// ---- features and where they come from --------------------------------------------------------------------

static void print_explained(json_t *feature, int width, FILE *to)
{
    const json_t *from = json_object_get(feature, "from"), *by = json_object_get(feature, "by");
    fprintf(to, "\n%-*s  ", width, json_string_value(json_object_get(feature, "name")));
    print_value(json_object_get(feature, "value"), to);
    fputc('\n', to);
    for (size_t i = 0; i < json_array_size(from); i++)
        fprintf(to, "  %s\n", json_string_value(json_object_get(json_array_get(from, i), "text")));
    for (size_t i = 0; i < json_array_size(by); i++)
        fprintf(to, "  -> %s\n", json_string_value(json_array_get(by, i)));
}

static int print_explain(json_t *root, FILE *to)
{
    char at[PRINT_TIME];
    int width = 0;
    const json_t *features = json_object_get(root, "features");
    const char *user = json_string_value(json_object_get(root, "user_id"));
    const char *item = json_string_value(json_object_get(root, "item_id"));
    if (user == NULL || item == NULL || !json_is_array(features))
        return -1;
    for (size_t i = 0; i < json_array_size(features); i++) {
        int n = (int)json_string_length(json_object_get(json_array_get(features, i), "name"));
        width = n > width ? n : width;
    }
    fprintf(to, "user %s, item %s\n  as of       %s\n", user, item,
            time_text(json_object_get(root, "at"), at));
    for (size_t i = 0; i < json_array_size(features); i++)
        print_explained(json_array_get(features, i), width, to);
    return 0;
}

int view_print(enum view_kind kind, struct str document, FILE *to, struct err *err)
{
    static int (*const print[])(json_t *, FILE *) = {print_entity, print_embedding, print_scores,
                                                     print_explain};
    json_t *root = json_loadb(document.s != NULL ? document.s : "", document.len, JSON_ALLOW_NUL, NULL);
    int result = root != NULL ? print[kind](root, to) : -1;
    json_decref(root);
    return result == 0 ? 0 : err_set(err, ERR_CORRUPT, "the answer is not a document of freshet's");
}

void view_problem(struct str document, int status, char *ret_detail, size_t size)
{
    json_t *root = json_loadb(document.s != NULL ? document.s : "", document.len, 0, NULL);
    const char *detail = json_string_value(json_object_get(root, "detail"));
    snprintf(ret_detail, size, "%s", detail != NULL ? detail : "");
    if (detail == NULL)
        snprintf(ret_detail, size, "HTTP status %d", status);
    json_decref(root);
}
