// SPDX-License-Identifier: Apache-2.0
// See top_view.h. A frame is first worked out (struct top: plain numbers, NaN where there is none), then put as a
// screen, a line or JSON.
#include "daemon/top_view.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { TOP_TEXT = 400, TOP_NUMBER = 32 };

struct top {
    const struct top_frame *frame;
    json_t *before, *now;
    double seconds; // between the two; NaN: no rates
    struct buf *to;
    int lines;
};

// ---- numbers out of a status ------------------------------------------------------------------------------

// By a path like "latency.commit.p99_s"; NaN where there is no number.
static double number_at(json_t *root, const char *path)
{
    char name[64];
    const json_t *v = root;
    for (const char *p = path; *p != '\0';) {
        size_t n = strcspn(p, ".");
        snprintf(name, sizeof name, "%.*s", (int)n, p);
        v = json_object_get(v, name);
        p += n + (p[n] == '.');
    }
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

static double now_at(const struct top *t, const char *path)
{
    return number_at(t->now, path);
}

// What a counter grew by.
static double grown(const struct top *t, const char *path)
{
    double before = number_at(t->before, path);
    return number_at(t->now, path) - (isnan(before) ? 0 : before); // a type of event that is new
}

static double rate(const struct top *t, const char *path)
{
    return grown(t, path) / t->seconds;
}

static double sum_of(json_t *object)
{
    const char *name;
    json_t *v;
    double sum = 0;
    json_object_foreach(object, name, v) sum += json_number_value(v);
    return sum;
}

static double dlq_rate(const struct top *t)
{
    return (sum_of(json_object_get(t->now, "dlq")) - sum_of(json_object_get(t->before, "dlq"))) / t->seconds;
}

static double events_rate(const struct top *t)
{
    return (sum_of(json_object_get(t->now, "events")) - sum_of(json_object_get(t->before, "events"))) /
           t->seconds;
}

// Share of settled feedback that met an impression: since ever, and lately.
static double join_rate(const struct top *t, bool lately)
{
    double joined = lately ? grown(t, "joined") : now_at(t, "joined");
    double orphans = lately ? grown(t, "orphans") : now_at(t, "orphans");
    return joined + orphans > 0 && !(lately && isnan(t->seconds)) ? joined / (joined + orphans) : (double)NAN;
}

// By how much a time in the status lies behind its wall clock, in seconds.
static double behind_s(const struct top *t, const char *path)
{
    return (now_at(t, "now") - now_at(t, path)) / 1e3;
}

// Seconds until the lag is read, at the pace of now; 0 without a lag.
static double lag_s(const struct top *t)
{
    double lag = now_at(t, "lag");
    return lag > 0 ? lag / rate(t, "messages") : lag;
}

// ---- numbers as text --------------------------------------------------------------------------------------

static const char *count_text(double v, char text[TOP_NUMBER])
{
    char plain[TOP_NUMBER];
    if (!isfinite(v)) {
        snprintf(text, TOP_NUMBER, "-");
        return text;
    }
    int n = snprintf(plain, sizeof plain, "%.0f", fabs(v) < 1e18 ? v : 0);
    int out = 0;
    for (int i = 0; i < n && out < TOP_NUMBER - 2; i++) {
        text[out++] = plain[i];
        if (plain[i] != '-' && i + 1 < n && (n - i - 1) % 3 == 0)
            text[out++] = ',';
    }
    text[out] = '\0';
    return text;
}

static const char *share_text(double v, char text[TOP_NUMBER])
{
    snprintf(text, TOP_NUMBER, isfinite(v) ? "%.1f%%" : "-", 100 * v);
    return text;
}

static const char *seconds_text(double s, char text[TOP_NUMBER])
{
    if (!isfinite(s))
        snprintf(text, TOP_NUMBER, "-");
    else if (fabs(s) < 1)
        snprintf(text, TOP_NUMBER, "%.3g ms", s * 1e3);
    else if (fabs(s) < 120)
        snprintf(text, TOP_NUMBER, "%.1f s", s);
    else if (fabs(s) < 7200)
        snprintf(text, TOP_NUMBER, "%.0f min", s / 60);
    else if (fabs(s) < 172800)
        snprintf(text, TOP_NUMBER, "%.1f h", s / 3600);
    else
        snprintf(text, TOP_NUMBER, "%.0f d", s / 86400);
    return text;
}

static const char *bytes_text(double v, char text[TOP_NUMBER])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int u = 0;
    for (; isfinite(v) && fabs(v) >= 1024 && u < 4; u++)
        v /= 1024;
    snprintf(text, TOP_NUMBER, isfinite(v) ? "%.*f %s" : "-", u > 0 && v < 100 ? 1 : 0, v, units[u]);
    return text;
}

static const char *loss_text(double v, char text[TOP_NUMBER])
{
    snprintf(text, TOP_NUMBER, isfinite(v) ? "%.4f" : "-", v);
    return text;
}

// ---- the screen -------------------------------------------------------------------------------------------

enum style { PLAIN, BOLD, ALARM };

__attribute__((format(printf, 3, 4))) static void line(struct top *t, enum style style, const char *fmt, ...)
{
    static const char *const begin[] = {"", "\033[1m", "\033[1;31m"};
    char text[TOP_TEXT];
    va_list args;
    if (t->lines >= t->frame->rows)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    for (char *c = text; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 127)
            *c = '?'; // nothing that the terminal would obey
    bool color = t->frame->color && style != PLAIN;
    buf_printf(t->to, "%s%.*s%s\n", color ? begin[style] : "", t->frame->columns, text,
               color ? "\033[0m" : "");
    t->lines++;
}

static void screen_title(struct top *t)
{
    char clock[32] = "";
    char up[TOP_NUMBER];
    struct tm tm;
    time_t now = (time_t)(now_at(t, "now") / 1000);
    const char *waits = json_string_value(json_object_get(t->now, "waits_for"));
    const char *problem = json_string_value(json_object_get(t->now, "problem"));
    if (localtime_r(&now, &tm) != NULL)
        strftime(clock, sizeof clock, "%T", &tm);
    line(t, BOLD, "freshet %s  %s  %s  up %s  %s", json_string_value(json_object_get(t->now, "freshet")),
         t->frame->address, clock, seconds_text(now_at(t, "uptime_ms") / 1e3, up),
         waits != NULL ? waits : "ready");
    if (problem != NULL)
        line(t, ALARM, "trouble      %s", problem);
}

static void screen_events(struct top *t)
{
    char text[TOP_TEXT] = "";
    char a[TOP_NUMBER];
    const char *type;
    json_t *v;
    json_object_foreach(json_object_get(t->now, "events"), type, v)
    {
        char path[80];
        size_t n = strlen(text);
        snprintf(path, sizeof path, "events.%.60s", type);
        snprintf(text + n, sizeof text - n, "  %s %s", type, count_text(rate(t, path), a));
    }
    line(t, PLAIN, "events/s     %s %s", count_text(events_rate(t), a), text);
}

static void screen_time(struct top *t)
{
    char a[TOP_NUMBER];
    char b[TOP_NUMBER];
    char c[TOP_NUMBER];
    char d[TOP_NUMBER];
    line(t, now_at(t, "lag") > 0 ? BOLD : PLAIN,
         "lag          %s messages, %s   newest event %s ago   watermark %s ago",
         count_text(now_at(t, "lag"), a), seconds_text(lag_s(t), b), seconds_text(behind_s(t, "at"), c),
         seconds_text(behind_s(t, "watermark"), d));
    line(t, PLAIN, "late/s       %s   duplicates/s %s   dlq/s %s   (so far %s, %s, %.0f)",
         count_text(rate(t, "late"), a), count_text(rate(t, "duplicates"), b), count_text(dlq_rate(t), c),
         count_text(now_at(t, "late"), d), count_text(now_at(t, "duplicates"), (char[TOP_NUMBER]){0}),
         sum_of(json_object_get(t->now, "dlq")));
}

// The partition that holds the watermark: of those that are not idle the one that is furthest behind.
static void screen_partitions(struct top *t)
{
    char a[TOP_NUMBER];
    const json_t *parts = json_object_get(t->now, "partitions");
    size_t n = json_array_size(parts);
    size_t idle = 0;
    json_t *last = NULL;
    for (size_t i = 0; i < n; i++) {
        json_t *part = json_array_get(parts, i);
        idle += json_is_true(json_object_get(part, "idle"));
        if (!json_is_true(json_object_get(part, "idle")) &&
            (last == NULL || number_at(part, "watermark") < number_at(last, "watermark")))
            last = part;
    }
    double ahead = now_at(t, "ahead_ms") / 1e3;
    if (last != NULL)
        line(t, ahead > 0 ? ALARM : PLAIN,
             "partitions   %zu, %zu idle   the last one is %s %.0f, at %s ago%s", n, idle,
             json_string_value(json_object_get(last, "topic")), number_at(last, "partition"),
             seconds_text((now_at(t, "now") - number_at(last, "watermark")) / 1e3, a),
             ahead > 0 ? "   AHEAD OF THE CLOCK" : "");
    else
        line(t, PLAIN, "partitions   %zu, %zu idle", n, idle);
}

static void screen_join(struct top *t)
{
    char a[TOP_NUMBER];
    char b[TOP_NUMBER];
    char c[TOP_NUMBER];
    char d[TOP_NUMBER];
    line(t, PLAIN, "join         %s of feedback (%s since ever)   impressions pending %s",
         share_text(join_rate(t, true), a), share_text(join_rate(t, false), b),
         count_text(now_at(t, "pending"), c));
    line(t, PLAIN, "label delay  p50 %s   p99 %s   mean %s", seconds_text(now_at(t, "label_delay.p50_s"), a),
         seconds_text(now_at(t, "label_delay.p99_s"), b), seconds_text(now_at(t, "label_delay.mean_s"), c));
    line(t, PLAIN, "samples/s    %s   (so far %s)   dropped/s %s   late labels/s %s",
         count_text(rate(t, "samples"), a), count_text(now_at(t, "samples"), b),
         count_text(rate(t, "negatives_dropped"), c), count_text(rate(t, "late_labels"), d));
}

static void screen_updates(struct top *t)
{
    char a[TOP_NUMBER];
    char b[TOP_NUMBER];
    char c[TOP_NUMBER];
    char text[TOP_TEXT] = "";
    const char *name;
    json_t *table;
    const json_t *newest = json_array_get(json_object_get(t->now, "newest_updates"), 0);
    double age = (now_at(t, "now") - number_at((json_t *)newest, "applied")) / 1e3;
    line(t, PLAIN, "updates      %s, %s stopped, %s waiting   serving version %.0f%s%s",
         count_text(now_at(t, "updates"), a), count_text(now_at(t, "updates_stopped"), b),
         count_text(now_at(t, "updates_waiting"), c), now_at(t, "version"), newest != NULL ? ", for " : "",
         newest != NULL ? seconds_text(age, (char[TOP_NUMBER]){0}) : "");
    json_object_foreach(json_object_get(t->now, "tables"), name, table)
    {
        size_t n = strlen(text);
        snprintf(text + n, sizeof text - n, "%s%s %s of %s", n > 0 ? "   " : "", name,
                 count_text(number_at(table, "rows"), a), count_text(number_at(table, "capacity"), b));
    }
    line(t, PLAIN, "rows         %s", text);
}

static void screen_machine(struct top *t)
{
    char a[TOP_NUMBER];
    char b[TOP_NUMBER];
    char c[TOP_NUMBER];
    char d[TOP_NUMBER];
    line(t, PLAIN, "commits      p50 %s   p99 %s   last %s   failures %s",
         seconds_text(now_at(t, "latency.commit.p50_s"), a),
         seconds_text(now_at(t, "latency.commit.p99_s"), b),
         seconds_text(now_at(t, "state.commit_us_last") / 1e6, c),
         count_text(now_at(t, "state.commit_failures"), d));
    line(t, PLAIN, "http/s       %s   p50 %s   p99 %s", count_text(rate(t, "latency.request.count"), a),
         seconds_text(now_at(t, "latency.request.p50_s"), b),
         seconds_text(now_at(t, "latency.request.p99_s"), c));
    line(t, PLAIN, "memory       %s resident   cache %s   joiner %s   disk %s",
         bytes_text(now_at(t, "resident_bytes"), a), bytes_text(now_at(t, "state.cache_bytes"), b),
         bytes_text(now_at(t, "state.joiner_bytes"), c), bytes_text(now_at(t, "state.disk_bytes"), d));
}

static void screen_update(struct top *t, json_t *update, const char *head)
{
    char text[6][TOP_NUMBER];
    const char *brake = json_string_value(json_object_get(update, "brake"));
    json_t *window = json_object_get(json_object_get(update, "heads"), head);
    line(t, PLAIN, "%9s %9s %12s %10s %9.0f %8s %8s %8s  %s",
         loss_text(number_at(window, "total.logloss"), text[0]),
         loss_text(number_at(window, "logloss"), text[1]),
         count_text(number_at(window, "total.samples"), text[2]),
         count_text(number_at(window, "samples"), text[3]), number_at(update, "version"),
         loss_text(number_at(window, "auc"), text[4]), loss_text(number_at(window, "ne"), text[5]),
         loss_text(number_at(window, "calibration"), (char[TOP_NUMBER]){0}),
         brake != NULL                                     ? brake
         : json_is_true(json_object_get(update, "frozen")) ? ""
                                                           : "all layers");
}

// The table of Vowpal Wabbit: loss of samples before they are trained on, in the mean and since the line before;
// newest on top.
static void screen_head(struct top *t, const char *head, int rows)
{
    const json_t *updates = json_object_get(t->now, "newest_updates");
    size_t n = json_array_size(updates);
    line(t, PLAIN, "%s", "");
    line(t, BOLD, "head %s", head);
    line(t, BOLD, "%9s %9s %12s %10s", "average", "since", "sample", "samples");
    line(t, BOLD, "%9s %9s %12s %10s %9s %8s %8s %8s", "loss", "last", "counter", "since last", "version",
         "auc", "ne", "calib");
    for (size_t i = 0; i < n && (int)i < rows; i++)
        screen_update(t, json_array_get(updates, i), head);
    if (n == 0)
        line(t, PLAIN, "%9s  no update yet", "-");
}

static void screen_put(struct top *t)
{
    const char *head;
    json_t *v;
    screen_title(t);
    screen_events(t);
    screen_time(t);
    screen_partitions(t);
    screen_join(t);
    screen_updates(t);
    screen_machine(t);
    json_t *heads = json_object_get(t->now, "metrics");
    int n = (int)json_object_size(heads);
    int rows = n > 0 ? (t->frame->rows - t->lines) / n - 4 : 0;
    json_object_foreach(heads, head, v) screen_head(t, head, rows > 1 ? rows : 1);
}

// ---- a line, and JSON -------------------------------------------------------------------------------------

// jansson's json_object and json_null cannot be called: base/json.h has functions of these names.
static json_t *object_new(void)
{
    return json_pack("{}");
}

static json_t *number_or_null(double v)
{
    return isfinite(v) ? json_real(v) : json_pack("n");
}

static void figure(json_t *to, const char *name, double v)
{
    json_object_set_new(to, name, number_or_null(v));
}

static json_t *figures_events(const struct top *t)
{
    const char *type;
    json_t *v;
    json_t *events = object_new();
    json_object_foreach(json_object_get(t->now, "events"), type, v)
    {
        char path[80];
        snprintf(path, sizeof path, "events.%.60s", type);
        figure(events, type, rate(t, path));
    }
    return events;
}

static json_t *figures_heads(const struct top *t)
{
    const char *head;
    json_t *window;
    json_t *heads = object_new();
    const json_t *newest = json_array_get(json_object_get(t->now, "newest_updates"), 0);
    json_object_foreach(json_object_get(newest, "heads"), head, window)
    {
        json_t *h = object_new();
        figure(h, "average_loss", number_at(window, "total.logloss"));
        figure(h, "last_loss", number_at(window, "logloss"));
        figure(h, "samples", number_at(window, "total.samples"));
        figure(h, "auc", number_at(window, "auc"));
        figure(h, "ne", number_at(window, "ne"));
        figure(h, "calibration", number_at(window, "calibration"));
        json_object_set_new(heads, head, h);
    }
    return heads;
}

static json_t *figures(const struct top *t)
{
    json_t *f = object_new();
    json_object_set(f, "now", json_object_get(t->now, "now"));
    json_object_set(f, "ready", json_object_get(t->now, "ready"));
    json_object_set(f, "problem", json_object_get(t->now, "problem"));
    figure(f, "events_per_s", events_rate(t));
    json_object_set_new(f, "events_per_s_by_type", figures_events(t));
    figure(f, "messages_per_s", rate(t, "messages"));
    figure(f, "lag_messages", now_at(t, "lag"));
    figure(f, "lag_s", lag_s(t));
    figure(f, "newest_event_age_s", behind_s(t, "at"));
    figure(f, "watermark_delay_s", behind_s(t, "watermark"));
    figure(f, "watermark_ahead_s", now_at(t, "ahead_ms") / 1e3);
    figure(f, "late_per_s", rate(t, "late"));
    figure(f, "duplicates_per_s", rate(t, "duplicates"));
    figure(f, "dlq_per_s", dlq_rate(t));
    figure(f, "join_rate", join_rate(t, true));
    figure(f, "join_rate_total", join_rate(t, false));
    figure(f, "pending", now_at(t, "pending"));
    figure(f, "label_delay_p50_s", now_at(t, "label_delay.p50_s"));
    figure(f, "label_delay_p99_s", now_at(t, "label_delay.p99_s"));
    figure(f, "samples_per_s", rate(t, "samples"));
    figure(f, "updates", now_at(t, "updates"));
    figure(f, "version", now_at(t, "version"));
    figure(f, "commit_p50_s", now_at(t, "latency.commit.p50_s"));
    figure(f, "commit_p99_s", now_at(t, "latency.commit.p99_s"));
    figure(f, "request_p99_s", now_at(t, "latency.request.p99_s"));
    figure(f, "resident_bytes", now_at(t, "resident_bytes"));
    json_object_set_new(f, "heads", figures_heads(t));
    return f;
}

static void line_put(const struct top *t, json_t *f)
{
    const char *name;
    json_t *v;
    struct tm tm;
    char clock[32] = "";
    time_t now = (time_t)(now_at(t, "now") / 1000);
    if (gmtime_r(&now, &tm) != NULL)
        strftime(clock, sizeof clock, "%FT%TZ", &tm);
    buf_printf(t->to, "ts=%s", clock);
    json_object_foreach(f, name, v)
    {
        if (json_is_number(v) && strcmp(name, "now") != 0)
            buf_printf(t->to, " %s=%.6g", name, json_number_value(v));
    }
    json_object_foreach(json_object_get(f, "heads"), name, v)
    {
        buf_printf(t->to, " %s_loss=%.4f", name, number_at(v, "average_loss"));
        if (isfinite(number_at(v, "auc")))
            buf_printf(t->to, " %s_auc=%.4f", name, number_at(v, "auc"));
    }
    buf_put_u8(t->to, '\n');
}

static void figures_put(const struct top *t)
{
    json_t *f = figures(t);
    if (t->frame->form == TOP_LINE) {
        line_put(t, f);
    } else {
        char *text = json_dumps(f, JSON_COMPACT | JSON_REAL_PRECISION(9));
        buf_printf(t->to, "%s\n", text != NULL ? text : "{}");
        free(text);
    }
    json_decref(f);
}

int top_view(const struct top_frame *frame, struct str before, struct str now, struct buf *to,
             struct err *err)
{
    struct top t = {.frame = frame, .to = to};
    t.now = json_loadb(now.len > 0 ? now.s : "", now.len, 0, NULL);
    t.before = json_loadb(before.len > 0 ? before.s : "", before.len, 0, NULL);
    int result = json_is_object(t.now) && json_is_object(json_object_get(t.now, "events"))
                     ? 0
                     : err_set(err, ERR_CORRUPT, "the answer is not a status of freshet's");
    double ms = number_at(t.now, "uptime_ms") - number_at(t.before, "uptime_ms");
    t.seconds = ms > 0 ? ms / 1e3 : (double)NAN; // the daemon may have started anew
    if (result == 0 && frame->form == TOP_SCREEN)
        screen_put(&t);
    else if (result == 0)
        figures_put(&t);
    json_decref(t.now);
    json_decref(t.before);
    return result;
}
