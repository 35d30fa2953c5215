// SPDX-License-Identifier: Apache-2.0
// A copy, or the state that one is to begin with, of another format: `freshet follow` refuses it with a message that
// tells the way out, before it asks any broker, and leaves it as it is. What it refuses of a topic is in
// tests/scenario/follow_refuses.py.
#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "daemon/cli.h"
#include "daemon/engine.h"
#include "state/keys.h"
#include "state/store.h"

struct place {
    char dir[64];
    char said[2048]; // on stderr, by the last command
};

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static void place_init(struct place *p)
{
    strcpy(p->dir, "/tmp/freshet-follow-XXXXXX");
    cr_assert_not_null(mkdtemp(p->dir));
    cr_assert_eq(chdir(p->dir), 0);
}

static void place_done(const struct place *p)
{
    nftw(p->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

// The exit code; what went to stderr is in p->said.
static int command(struct place *p, char **argv)
{
    int argc = 0;
    while (argv[argc] != NULL)
        argc++;
    int before = dup(STDERR_FILENO);
    cr_assert_not_null(freopen("stderr", "w", stderr));
    int code = cli_main(argc, argv);
    fflush(stderr);
    dup2(before, STDERR_FILENO);
    close(before);
    FILE *f = fopen("stderr", "r");
    p->said[fread(p->said, 1, sizeof p->said - 1, f)] = '\0';
    fclose(f);
    return code;
}

static struct state *copy_open(struct config **ret_config)
{
    struct err err = {0};
    struct state *s = NULL;
    struct state_options options;
    cr_assert_eq(config_load(NULL, NULL, 0, NULL, ret_config, &err), 0, "%s", err.message);
    engine_state_options(*ret_config, &options);
    cr_assert_eq(state_open("copy", &options, &s, &err), 0, "%s", err.message);
    return s;
}

static void copy_close(struct state *s, struct config *config)
{
    state_close(s);
    config_free(config);
}

static void copy_make(const struct buf *record)
{
    struct config *config;
    struct state *s = copy_open(&config);
    uint64_t ticket;
    state_blob_put(s, "follow", buf_str(record));
    cr_assert_eq(state_commit(s, (struct str){0}, &ticket, NULL), 0);
    cr_assert_eq(state_commit_wait(s, NULL), 0);
    copy_close(s, config);
}

static void copy_read(struct buf *ret_record, bool *ret_found)
{
    struct config *config;
    struct state *s = copy_open(&config);
    cr_assert_eq(state_blob_get(s, "follow", ret_record, ret_found, NULL), 0);
    copy_close(s, config);
}

Test(follow, a_copy_of_another_format_is_refused)
{
    static const uint32_t formats[] = {1, 3};
    for (int i = 0; i < 2; i++) {
        struct place p;
        struct buf record = {0}, after = {0};
        bool found;
        place_init(&p);
        buf_put_u32(&record, formats[i]);
        buf_put(&record, "what another freshet knows", 26);
        copy_make(&record);
        cr_expect_eq(command(&p, (char *[]){"freshet", "follow", "--state", "copy", "--once", NULL}),
                     EXIT_FAILED);
        cr_expect(strstr(p.said, "another freshet: begin a new one, in a new --state") != NULL, "%s", p.said);
        copy_read(&after, &found);
        cr_expect(found && str_equal(buf_str(&record), buf_str(&after)), "it stays as it is");
        buf_done(&record);
        buf_done(&after);
        place_done(&p);
    }
}

Test(follow, a_state_of_another_format_is_no_snapshot)
{
    struct place p;
    struct store *store = NULL;
    struct store_options options = {0};
    struct buf after = {0};
    uint32_t format = STATE_FORMAT - 1;
    char found_format[32];
    snprintf(found_format, sizeof found_format, "format %u,", format);
    uint8_t key[64] = {KEY_META};
    bool found;
    place_init(&p);
    cr_assert_eq(store_open("old", &options, &store, NULL), 0);
    struct store_batch *b = store_batch_new();
    memcpy(key + KEY_PREFIX, "format", 6);
    store_batch_put(b, key, KEY_PREFIX + 6, &format, sizeof format);
    cr_assert_eq(store_ingest(store, b, NULL), 0);
    store_batch_free(b);
    store_close(store);
    cr_expect_eq(command(&p, (char *[]){"freshet", "follow", "--state", "copy", "--from", "old", NULL}),
                 EXIT_FAILED);
    cr_expect(strstr(p.said, "snapshot old: ") != NULL && strstr(p.said, found_format) != NULL, "%s", p.said);
    copy_read(&after, &found);
    cr_expect_not(found, "no copy was begun");
    buf_done(&after);
    place_done(&p);
}
